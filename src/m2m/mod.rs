//! Machine-to-machine: access tokens for services that call others.
