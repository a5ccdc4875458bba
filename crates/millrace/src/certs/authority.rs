//! The authority of a small farm: a key that signs, and a certificate that says so.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use time::{Duration, OffsetDateTime};

use super::{
    arguments::InitArguments,
    files::{Secrecy, replace, write_new},
    show::{Found, pem_certificates},
};
use crate::prerequisite::Prerequisite;

/// Clocks of hosts differ: what is made now is valid from a little before.
const BEFORE: Duration = Duration::HOUR;

/// From a little before now, so many days.
pub fn validity(days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - BEFORE, now + Duration::days(days.into()))
}

/// Makes one.
///
/// # Errors
/// There is one already and it is not to be replaced, or is to be and there is none.
pub fn init(wanted: &InitArguments) -> anyhow::Result<()> {
    make_folder(&wanted.dir)?;
    let (certificate, key) = files(&wanted.dir);
    if wanted.replace {
        let new = new(&wanted.farm, wanted.days)?;
        let old = read(&certificate)?;
        // The certificate first: with the old key it still signs nothing wrong.
        replace(&certificate, &format!("{}{old}", new.pem()), Secrecy::Public)?;
        replace(&key, &new.key().serialize_pem(), Secrecy::Secret)?;
        crate::output::say(format_args!(
            "{}: names the new authority and the old one; give it to every program, renew every certificate, \
             then remove the old one from it (docs/operations/certificates.md)",
            certificate.display()
        ));
        return Ok(());
    }
    create(&wanted.dir, &wanted.farm, wanted.days)?;
    crate::output::say(format_args!("{}: give it to every program", certificate.display()));
    crate::output::say(format_args!(
        "{}: signs certificates; keep it here, on no host of the farm",
        key.display()
    ));
    Ok(())
}

/// Makes one in a folder that has none, which need not be there.
///
/// # Errors
/// There is one already.
pub fn create(dir: &Path, farm: &str, days: u32) -> anyhow::Result<()> {
    make_folder(dir)?;
    let (certificate, key) = files(dir);
    let new = new(farm, days)?;
    let otherwise = "another folder with --dir, or --replace to put a new authority in its place";
    write_new(&key, &new.key().serialize_pem(), Secrecy::Secret, otherwise)?;
    write_new(&certificate, &new.pem(), Secrecy::Public, otherwise)
}

fn make_folder(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| dir.display().to_string())
}

/// Certificate and key.
fn files(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("ca.pem"), dir.join("ca.key"))
}

fn new(farm: &str, days: u32) -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{farm} authority"));
    (params.not_before, params.not_after) = validity(days);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// An authority that can sign.
pub struct Authority {
    /// What signs.
    pub issuer: Issuer<'static, KeyPair>,
    /// Its end.
    pub until: OffsetDateTime,
}

impl Authority {
    /// Reads that of a folder: of the certificates in ca.pem, the one that ca.key is for.
    ///
    /// # Errors
    /// There is none, or none that fits its key.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let (certificate, key) = files(dir);
        let key_pair = KeyPair::from_pem(&read(&key)?)
            .map_err(|error| anyhow!("{}: {error}", key.display()))?;
        let mut all = pem_certificates(&certificate)?.into_iter();
        let spki = key_pair.subject_public_key_info();
        let fits = all.find(|der| Found::of(der).is_ok_and(|found| found.public_key == spki));
        let der = fits.ok_or_else(|| {
            Prerequisite(format!("{}: none is for {}", certificate.display(), key.display()))
        })?;
        let until = Found::of(&der)?.until;
        Ok(Self { issuer: Issuer::from_ca_cert_der(&der, key_pair)?, until })
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Prerequisite(format!(
            "{} is missing: make an authority with `millrace certs init`, or name its folder with --dir",
            path.display()
        ))
        .into(),
        _ => anyhow::Error::new(error).context(path.display().to_string()),
    })
}
