//! The subcommands, one file each: functions from what was loaded to what is printed.

mod bearer;
pub mod explain;
pub mod routes;
