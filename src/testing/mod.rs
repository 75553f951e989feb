//! A Logto on a loopback port for your own tests, and a clock to move by hand.
