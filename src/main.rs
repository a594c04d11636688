//! The program: parse the command line, do what it says.

use std::process::ExitCode;

use clap::Parser as _;
use pingora_bff::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().execute()
}
