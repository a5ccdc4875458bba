//! What an operator can set of the registry: the `[registry]` section of every program. Strict, and checked at start.

use std::path::PathBuf;

use millrace_tls::FarmTlsConfig;
use serde::{Deserialize, Serialize};

/// The shortest lease that etcd grants with its own defaults, and the longest that still is a sign of life.
const LEASE_SECONDS: std::ops::RangeInclusive<u64> = 2..=60;

/// Where the registry is; one etcd cluster serves the whole farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// The members of the etcd cluster, as `http://HOST:PORT` or `https://HOST:PORT`; any that answers will do.
    pub endpoints: Vec<String>,
    /// What every key begins with. Farms that share an etcd cluster have one each.
    pub prefix: String,
    /// Certificate (PEM) of the authority that etcd's certificates are from; needed with `https`, that of `farm_tls` when
    /// neither this nor the next two are set.
    pub ca: Option<PathBuf>,
    /// This program's own certificate (PEM), its common name the user whose rights etcd gives it.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// After how many seconds without a sign of life this program's own records go, 2 to 60.
    pub lease_seconds: u64,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            prefix: "/millrace/v1".to_owned(),
            ca: None,
            certificate: None,
            key: None,
            lease_seconds: 3,
        }
    }
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// Nothing to connect to.
    #[error(
        "no registry: list the members of your etcd cluster, [registry] endpoints = [\"http://HOST:2379\"], or run `millrace standalone`, which needs none"
    )]
    NoEndpoints,
    /// Not an address.
    #[error("registry endpoint {0:?} is not http://HOST:PORT or https://HOST:PORT")]
    Endpoint(String),
    /// Encryption without anyone to trust, or trust without encryption.
    #[error("registry endpoint {0:?}: https needs ca, and ca needs https")]
    Tls(String),
    /// Not a folder of keys.
    #[error("registry prefix {0:?} does not begin with / or ends with it")]
    Prefix(String),
    /// Half a pair.
    #[error("registry certificate and key go together; ca goes with both or alone")]
    HalfAPair,
    /// Too short for etcd or too long for a farm.
    #[error("registry lease_seconds {0} is not within 2 to 60")]
    Lease(u64),
    /// A file that is named cannot be read.
    #[error("registry {setting} {path:?}: {reason}")]
    File {
        /// Which setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl RegistryConfig {
    /// Whether a registry could be connected to by these settings; whether one is there is another matter.
    ///
    /// # Errors
    /// [`SettingsError`], each saying which setting is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.endpoints.is_empty() {
            return Err(SettingsError::NoEndpoints);
        }
        for endpoint in &self.endpoints {
            let (tls, rest) = match endpoint.split_once("://") {
                Some(("http", rest)) => (false, rest),
                Some(("https", rest)) => (true, rest),
                _ => return Err(SettingsError::Endpoint(endpoint.clone())),
            };
            let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() || rest.starts_with(':') {
                return Err(SettingsError::Endpoint(endpoint.clone()));
            }
            if tls != self.ca.is_some() {
                return Err(SettingsError::Tls(endpoint.clone()));
            }
        }
        if !self.prefix.starts_with('/') || self.prefix.ends_with('/') {
            return Err(SettingsError::Prefix(self.prefix.clone()));
        }
        if self.certificate.is_some() != self.key.is_some()
            || (self.certificate.is_some() && self.ca.is_none())
        {
            return Err(SettingsError::HalfAPair);
        }
        if !LEASE_SECONDS.contains(&self.lease_seconds) {
            return Err(SettingsError::Lease(self.lease_seconds));
        }
        Ok(())
    }

    /// With `https` and no files of its own, the registry is spoken to by the certificate that the farm knows the program by.
    pub fn identify(&mut self, farm: &FarmTlsConfig) {
        let of_its_own = [&self.ca, &self.certificate, &self.key].iter().any(|file| file.is_some());
        let tls = self.endpoints.iter().any(|endpoint| endpoint.starts_with("https://"));
        if tls && !of_its_own {
            let FarmTlsConfig { ca, certificate, key } = farm.clone();
            (self.ca, self.certificate, self.key) = (Some(ca), Some(certificate), Some(key));
        }
    }

    /// Whether the files that are named can be read now.
    pub(crate) fn files(&self) -> Result<(), SettingsError> {
        let named = [("ca", &self.ca), ("certificate", &self.certificate), ("key", &self.key)];
        for (setting, path) in named {
            let Some(path) = path else { continue };
            if let Err(error) = std::fs::read(path) {
                let (path, reason) = (path.clone(), error.to_string());
                return Err(SettingsError::File { setting, path, reason });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<(), String> {
        let config: RegistryConfig = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string())
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_the_setting_at_fault() {
        for (text, at_fault) in [
            ("", "endpoints = [\"http://HOST:2379\"]"),
            ("endpoints = ['etcd-1:2379']", "\"etcd-1:2379\""),
            ("endpoints = ['http://etcd-1']", "\"http://etcd-1\""),
            ("endpoints = ['http://:2379']", "\"http://:2379\""),
            ("endpoints = ['https://etcd-1:2379']", "ca"),
            ("endpoints = ['http://etcd-1:2379']\nca = 'ca.pem'", "ca"),
            ("endpoints = ['https://e:1']\nca = 'ca.pem'\nkey = 'key.pem'", "certificate"),
            ("endpoints = ['http://e:1']\nprefix = 'farm'", "prefix"),
            ("endpoints = ['http://e:1']\nlease_seconds = 1", "lease_seconds 1"),
            ("endpoint = ['http://e:1']", "endpoint"),
        ] {
            let error = config(text).unwrap_err();
            assert!(error.contains(at_fault), "{text}: {error}");
        }
    }

    #[test]
    fn a_registry_with_tls_and_no_files_of_its_own_takes_those_of_the_farm() {
        let read = |text: &str| {
            let mut config: RegistryConfig = toml::from_str(text).unwrap();
            let [ca, certificate, key] = ["farm", "pem", "key"].map(PathBuf::from);
            config.identify(&FarmTlsConfig { ca, certificate, key });
            (config.check().is_ok(), config.ca.map(|path| path.display().to_string()))
        };
        let tls = "endpoints = ['https://e:1']";
        assert_eq!(read(tls), (true, Some("farm".to_owned())));
        assert_eq!(read(&format!("{tls}\nca = 'own'")), (true, Some("own".to_owned())));
        assert_eq!(read("endpoints = ['http://e:1']"), (true, None));
    }

    #[test]
    fn settings_that_can_work_are_accepted() {
        for text in [
            "endpoints = ['http://127.0.0.1:2379', 'http://[::1]:2379']",
            "endpoints = ['https://etcd-1:2379']\nca = 'ca.pem'\ncertificate = 'c.pem'\nkey = 'k.pem'",
            "endpoints = ['http://e:1']\nprefix = '/farm-2'\nlease_seconds = 10",
        ] {
            assert_eq!(config(text), Ok(()));
        }
    }
}
