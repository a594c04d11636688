//! The demo's configuration: five ordinary files with the addresses of this run filled in. The run
//! reads them from a folder like any other, so what is written out is what was seen working.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use super::listen::Ports;
use crate::config::Secret;

/// Audience of the token that the login itself brings.
pub const OWN_AUDIENCE: &str = "https://bff.example.com";
/// Audience of `analytics_service`.
pub const ANALYTICS_AUDIENCE: &str = "https://analytics.example.com";
/// Audience of `crud_service`.
pub const CRUD_AUDIENCE: &str = "https://crud.example.com";
/// Audience of `legacy_service`.
pub const LEGACY_AUDIENCE: &str = "https://legacy.example.com";
/// `client_id`.
pub const CLIENT_ID: &str = "pingora-bff-demo";
/// Every scope that the files name.
pub const SCOPES: [&str; 8] =
    ["openid", "profile", "email", "offline_access", "analytics.read", "records.read", "records.write", "legacy.use"];

/// Where the parts of one run are.
#[derive(Debug)]
pub struct Addresses {
    /// Where the proxy shall listen.
    pub listen: Vec<SocketAddr>,
    /// Where its metrics shall be.
    pub admin_listen: SocketAddr,
    /// What the browser sees, without a trailing slash.
    pub public_url: String,
    /// The provider's issuer.
    pub issuer: String,
    /// The secret it shares with the proxy.
    pub client_secret: Secret,
    /// Base URL of the service that holds the page.
    pub page: String,
    /// Base URL of the analytics service.
    pub analytics: String,
    /// Base URL of the crud service.
    pub crud: String,
    /// Base URL of the legacy service.
    pub legacy: String,
}

impl Addresses {
    /// Everything on 127.0.0.1; the browser says `localhost`.
    pub fn new(listen: Vec<SocketAddr>, admin_listen: SocketAddr, parts: Ports, client_secret: Secret) -> Self {
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let public = listen.first().map_or(0, SocketAddr::port);
        Self {
            listen,
            admin_listen,
            public_url: format!("http://localhost:{public}"),
            issuer: at(parts.provider),
            client_secret,
            page: at(parts.page),
            analytics: at(parts.analytics),
            crud: at(parts.crud),
            legacy: at(parts.legacy),
        }
    }
}

/// Path below the folder, and text with `%NAMES%` to fill in.
const FILES: [(&str, &str); 5] = [
    ("conf/settings.yaml", include_str!("templates/conf/settings.yaml")),
    ("conf/idps.yaml", include_str!("templates/conf/idps.yaml")),
    ("conf/legacy_services.yaml", include_str!("templates/conf/legacy_services.yaml")),
    ("routes/api.yaml", include_str!("templates/routes/api.yaml")),
    ("routes/page.yaml", include_str!("templates/routes/page.yaml")),
];

/// Where the client secret is filled in: its file is for its owner alone.
const SECRET: &str = "%CLIENT_SECRET%";

/// Writes `dir/conf/*` and `dir/routes/*`. A file that is already there is an error
/// (`AlreadyExists`) and stays as it is.
pub fn write(dir: &Path, addresses: &Addresses) -> io::Result<()> {
    for (path, template) in FILES {
        let path = dir.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if template.contains(SECRET) {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let opened = options.open(&path);
        let mut file = opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        file.write_all(fill(template, addresses).as_bytes())?;
    }
    Ok(())
}

fn fill(template: &str, addresses: &Addresses) -> String {
    let listen: Vec<String> = addresses.listen.iter().map(|address| format!("\"{address}\"")).collect();
    template
        .replace("%LISTEN%", &format!("[{}]", listen.join(", ")))
        .replace("%ADMIN_LISTEN%", &addresses.admin_listen.to_string())
        .replace("%PUBLIC_URL%", &addresses.public_url)
        .replace("%ISSUER%", &addresses.issuer)
        .replace("%OWN_AUDIENCE%", OWN_AUDIENCE)
        .replace("%CLIENT_ID%", CLIENT_ID)
        .replace(SECRET, addresses.client_secret.expose())
        .replace("%PAGE_URL%", &addresses.page)
        .replace("%ANALYTICS_URL%", &addresses.analytics)
        .replace("%CRUD_URL%", &addresses.crud)
        .replace("%LEGACY_URL%", &addresses.legacy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let listen = vec![([127, 0, 0, 1], 8080).into()];
        Addresses::new(listen, ([127, 0, 0, 1], 9090).into(), Ports::from(9180).unwrap(), Secret::new("s3cret"))
    }

    #[test]
    fn every_file_is_yaml_with_nothing_left_to_fill_in() {
        for (path, template) in FILES {
            let text = fill(template, &addresses());
            assert!(!text.contains('%'), "{path}");
            serde_yaml::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }

    #[test]
    fn the_provider_knows_every_scope_and_audience_of_the_files() {
        let (_, settings) = FILES[0];
        let settings: serde_json::Value = serde_yaml::from_str(&fill(settings, &addresses())).unwrap();
        let scopes = settings["auth"]["oauth_scopes"].as_str().unwrap();
        assert_eq!(scopes, SCOPES.join(" "));
        let audiences: Vec<_> = settings["service_audiences"].as_object().unwrap().values().collect();
        assert_eq!(audiences, [ANALYTICS_AUDIENCE, CRUD_AUDIENCE, LEGACY_AUDIENCE]);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_with_the_secret_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &addresses()).unwrap();
        let mut secret = 0;
        for (path, _) in FILES {
            let path = dir.path().join(path);
            if fs::read_to_string(&path).unwrap().contains("s3cret") {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
                secret += 1;
            }
        }
        assert_eq!(secret, 1);
    }

    #[test]
    fn an_existing_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &addresses()).unwrap();
        let settings = dir.path().join("conf/settings.yaml");
        fs::write(&settings, "mine").unwrap();
        let error = write(dir.path(), &addresses()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("conf/settings.yaml"), "{error}");
        assert_eq!(fs::read_to_string(settings).unwrap(), "mine");
    }
}
