//! Has no code: the test compiles the programs in `ui`.
