//! What is written in `conf/` and `routes/`, after defaults and `${VAR}`: plain data, no behaviour.

mod idp;
mod legacy;
mod redis;
mod route;
mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use idp::*;
pub use legacy::*;
pub use redis::*;
pub use route::*;
pub use settings::*;

/// Everything that was written, checked, with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `conf/settings.yaml`.
    pub settings: Settings,
    /// `conf/idps.yaml`, in the order written.
    pub idps: Vec<IdpConfig>,
    /// `services:` of every file in `routes/`, by name.
    pub services: BTreeMap<String, ServiceConfig>,
    /// `routes:` of every file in `routes/`; files in the order of their names.
    pub routes: Vec<RouteConfig>,
    /// `conf/legacy_services.yaml`; empty when the file is absent.
    pub legacy: LegacyConfig,
    /// The folder of `settings.yaml`, for messages that name a file.
    pub conf_dir: PathBuf,
    /// The folder of the route files, for messages that name a file.
    pub routes_dir: PathBuf,
}

/// PEM files; relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertifiedPair {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf.
    pub key: PathBuf,
}

/// Where something was written. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The path as it was opened.
    pub file: PathBuf,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// In characters, from 1; 0: the file as a whole.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}", self.file.display());
        }
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}
