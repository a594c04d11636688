//! The command line: parse and dispatch.

fn main() {}
