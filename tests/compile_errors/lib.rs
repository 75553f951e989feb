//! This library is empty. The test of this package compiles the programs in `ui`.
