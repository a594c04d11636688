//! The tests of the whole program, one topic a file.

mod config;
mod routing;
