//! What every program of its own reads from its file: what to log, where the registry is, and the rest, which is its own. And
//! whether the program would start by it, but for its addresses: asked by the program itself, and by whoever checks the file.

use std::{fmt, net::SocketAddr};

use millrace_telemetry::{InForce, LogFilter, SettingsError, SettingsFile, apart};
use millrace_tls::{FarmTlsConfig, TlsConfig, check_authorities};
use serde::{Serialize, de::DeserializeOwned};
use tracing::warn;

use crate::RegistryConfig;

/// A program's own settings.
pub trait OwnSettings: DeserializeOwned + Serialize {
    /// Those that SIGHUP changes, dotted; a table with all that is in it.
    const RELOADED: &'static [&'static str];

    /// Why the program does not start by them.
    type Error: fmt::Display;

    /// By what the farm knows the program.
    fn farm_tls(&self) -> Option<&FarmTlsConfig>;

    /// The settings that say where it listens, and the addresses.
    fn listeners(&self) -> Vec<(&'static str, SocketAddr)>;

    /// Whether every number is one that the program can work with.
    ///
    /// # Errors
    /// [`SettingsError`], saying which is not, and what it may be.
    fn values(&self) -> Result<(), SettingsError>;

    /// What can be and is most likely not meant, a line each.
    fn doubts(&self) -> Vec<String> {
        Vec::new()
    }

    /// Writes [`Self::doubts`] into the log.
    fn warn_of_doubts(&self) {
        self.doubts().iter().for_each(|doubt| warn!("{doubt}"));
    }

    /// Whether all else is there that the program needs of them: files, other programs. Opens no address.
    ///
    /// # Errors
    /// Says which setting is wrong.
    fn files(&self) -> Result<(), Self::Error>;
}

/// All that a program's file says.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramSettings<C> {
    /// What to log.
    #[serde(skip)]
    pub log: LogFilter,
    /// Where the registry is.
    pub registry: RegistryConfig,
    /// Everything else.
    #[serde(flatten)]
    pub own: C,
}

impl<C: OwnSettings> ProgramSettings<C> {
    /// Takes a file apart.
    ///
    /// # Errors
    /// [`SettingsError`] for an unknown key or a value that cannot be.
    pub fn read(mut file: SettingsFile) -> Result<Self, SettingsError> {
        let (log, registry) = (file.section("log"), file.section::<RegistryConfig>("registry"));
        let own = file.rest::<C>().and_then(|own| match own.values() {
            Ok(()) => Ok(own),
            Err(error) => Err(file.named(error)),
        });
        let (log, mut registry, own) = match (log, registry, own) {
            (Ok(log), Ok(registry), Ok(own)) => (log, registry, own),
            (log, registry, own) => {
                SettingsError::all([log.map(drop), registry.map(drop), own.map(drop)])?;
                unreachable!("invariant: one of them is wrong")
            }
        };
        if let Some(farm) = own.farm_tls() {
            registry.identify(farm);
        }
        Ok(Self { log, registry, own })
    }

    /// These, as those that the program goes by.
    pub fn in_force(&self) -> InForce {
        InForce::new(self, C::RELOADED.iter().copied())
    }

    /// Whether a program would start by these settings, as far as can be seen without opening an address.
    ///
    /// # Errors
    /// [`SettingsError`], each saying which setting is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        SettingsError::all([
            self.registry.check().map_err(SettingsError::of),
            apart(&self.own.listeners()),
            self.own.files().map_err(SettingsError::of),
            self.check_files_of_registry(),
        ])
    }

    fn check_files_of_registry(&self) -> Result<(), SettingsError> {
        let RegistryConfig { ca, certificate, key, .. } = &self.registry;
        let wrong = |error| SettingsError::of(format_args!("registry: {error}"));
        ca.as_deref().map_or(Ok(()), check_authorities).map_err(wrong)?;
        match (certificate.clone(), key.clone()) {
            (Some(certificate), Some(key)) => TlsConfig { certificate, key }.check().map_err(wrong),
            _ => Ok(()),
        }
    }
}
