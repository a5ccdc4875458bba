//! What stands in certificates: for whom, at which addresses, until when.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use millrace_tls::Identity;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;

use super::arguments::ShowArguments;
use crate::table::table;

/// What matters of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The common name; of the farm's programs, `role/name`.
    pub name: String,
    /// IP addresses and host names.
    pub addresses: Vec<String>,
    /// Its end.
    pub until: OffsetDateTime,
    /// Whether it signs others.
    pub is_authority: bool,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Public key with its algorithm, DER.
    pub public_key: Vec<u8>,
}

impl Found {
    /// Reads one in DER.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn of(der: &CertificateDer<'_>) -> anyhow::Result<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der)?;
        let name = parsed.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned();
        let alternatives = parsed.subject_alternative_name()?;
        let addresses =
            alternatives.map(|names| names.value.general_names.iter().filter_map(address));
        Ok(Self {
            name,
            addresses: addresses.into_iter().flatten().collect(),
            until: OffsetDateTime::from_unix_timestamp(parsed.validity().not_after.timestamp())?,
            is_authority: parsed.is_ca(),
            serial: parsed.raw_serial_as_string().replace(':', ""),
            public_key: parsed.public_key().raw.to_vec(),
        })
    }

    /// Whom in the farm it is for.
    pub fn identity(&self) -> Option<Identity> {
        self.name.parse().ok()
    }
}

fn address(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// Every certificate of a file.
///
/// # Errors
/// The file cannot be read, is no PEM, or holds none.
pub fn pem_certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let named = || file.display().to_string();
    let all: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&fs::read(file).with_context(named)?).collect();
    let all = all.map_err(|error| anyhow!("{}: {error}", file.display()))?;
    match all.is_empty() {
        true => Err(anyhow!("{}: no certificate in it", file.display())),
        false => Ok(all),
    }
}

/// The certificates of a folder, by name.
///
/// # Errors
/// The folder cannot be read.
pub fn of_folder(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "pem"))
        .collect();
    files.sort();
    Ok(files)
}

/// A day, as in 2026-11-21.
pub fn day(at: OffsetDateTime) -> String {
    at.date().to_string()
}

/// Shows them.
///
/// # Errors
/// A file cannot be read.
pub fn show(wanted: &ShowArguments) -> anyhow::Result<()> {
    let files = match wanted.files.is_empty() {
        true => of_folder(&wanted.dir)?,
        false => wanted.files.clone(),
    };
    let mut found = Vec::new();
    for file in files {
        for der in pem_certificates(&file)? {
            let read = Found::of(&der).with_context(|| file.display().to_string())?;
            found.push((file.display().to_string(), read));
        }
    }
    let now = OffsetDateTime::now_utc();
    match wanted.json {
        true => crate::output::say(format_args!(
            "{}",
            serde_json::to_string_pretty(&as_json(&found, now))?
        )),
        false => crate::output::print(format_args!("{}", as_table(&found, now))),
    }
    Ok(())
}

fn as_json(found: &[(String, Found)], now: OffsetDateTime) -> serde_json::Value {
    let each = found.iter().map(|(file, it)| {
        json!({
            "file": file, "name": it.name, "authority": it.is_authority, "addresses": it.addresses,
            "until": it.until.unix_timestamp(), "days_left": days_left(it, now), "serial": it.serial,
        })
    });
    each.collect()
}

fn as_table(found: &[(String, Found)], now: OffsetDateTime) -> String {
    let rows: Vec<_> = found
        .iter()
        .map(|(file, it)| {
            let left = match days_left(it, now) {
                gone if gone < 0 => "expired".to_owned(),
                left => format!("{left} days"),
            };
            let kind = match (it.is_authority, it.identity()) {
                (true, _) => "authority",
                (false, Some(_)) => "",
                (false, None) => "nobody of the farm",
            };
            [
                file.clone(),
                it.name.clone(),
                it.addresses.join(","),
                day(it.until),
                left,
                kind.to_owned(),
            ]
        })
        .collect();
    table(["FILE", "NAME", "ADDRESSES", "UNTIL", "LEFT", "KIND"], &rows)
}

fn days_left(it: &Found, now: OffsetDateTime) -> i64 {
    (it.until - now).whole_seconds().div_euclid(24 * 3600)
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn the_last_day_counts_as_none_left_and_what_is_over_as_expired() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let shown = |until: OffsetDateTime| {
            let found = Found {
                name: "node/a".to_owned(),
                addresses: vec!["192.0.2.1".to_owned()],
                until,
                is_authority: false,
                serial: "0a".to_owned(),
                public_key: Vec::new(),
            };
            as_table(&[("node-a.pem".to_owned(), found)], now).lines().nth(1).unwrap().to_owned()
        };
        assert!(shown(now + Duration::hours(1)).contains("0 days"));
        assert!(shown(now + Duration::days(30)).contains("30 days"));
        assert!(shown(now - Duration::hours(1)).contains("expired"));
    }
}
