//! One certificate and its key.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use millrace_tls::{Identity, Role};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::{
    arguments::IssueArguments,
    authority::{Authority, validity},
    files::{Secrecy, replace, write_new},
    show::{Found, day, pem_certificates},
};
use crate::prerequisite::Prerequisite;

/// Makes it.
///
/// # Errors
/// There is one already and it is not to be renewed, an address is none, or there is no authority.
pub fn issue(wanted: &IssueArguments) -> anyhow::Result<()> {
    let (certificate, until) = write(wanted)?;
    let IssueArguments { role, name, .. } = wanted;
    let certificate = certificate.display();
    crate::output::say(format_args!("{certificate}: {role}/{name}, valid until {}", day(until)));
    Ok(())
}

/// The same, and says nothing: the certificate's file, and its end.
///
/// # Errors
/// As [`issue`].
pub fn write(wanted: &IssueArguments) -> anyhow::Result<(PathBuf, OffsetDateTime)> {
    let identity = Identity { role: wanted.role, name: wanted.name.clone() };
    let file = |ending: &str| wanted.dir.join(format!("{}-{}.{ending}", wanted.role, wanted.name));
    let (certificate, key) = (file("pem"), file("key"));
    let authority = Authority::load(&wanted.dir)?;
    let mut addresses = wanted.addresses.clone();
    if wanted.renew && addresses.is_empty() {
        addresses = addresses_of(&certificate)?;
    }
    if wanted.role == Role::Etcd && addresses.is_empty() {
        let why = "programs and members reach etcd by address or name: give each with --address";
        return Err(Prerequisite(why.to_owned()).into());
    }
    let mut params = params(&identity, &addresses, wanted.days)?;
    params.not_after = params.not_after.min(authority.until);
    let (until, key_pair) = (params.not_after, KeyPair::generate()?);
    let text = params.signed_by(&key_pair, &authority.issuer)?.pem();
    match wanted.renew {
        // Whoever reads between the two keeps what it has: they do not fit.
        true => {
            replace(&key, &key_pair.serialize_pem(), Secrecy::Secret)?;
            replace(&certificate, &text, Secrecy::Public)?;
        }
        false => {
            let otherwise = "renew it with --renew";
            write_new(&key, &key_pair.serialize_pem(), Secrecy::Secret, otherwise)?;
            write_new(&certificate, &text, Secrecy::Public, otherwise)?;
        }
    }
    Ok((certificate, until))
}

fn params(
    identity: &Identity,
    addresses: &[String],
    days: u32,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, identity.to_string());
    let names = addresses.iter().map(|address| alternative_name(address));
    params.subject_alt_names = names.collect::<Result<_, _>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Both for all: programs connect and listen, and so do members of etcd.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = validity(days);
    Ok(params)
}

fn alternative_name(address: &str) -> Result<SanType, Prerequisite> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let wrong = || Prerequisite(format!("--address {address:?} is no address and no host name"));
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*');
    match !address.is_empty() && address.chars().all(fits) {
        true => Ok(SanType::DnsName(address.try_into().map_err(|_| wrong())?)),
        false => Err(wrong()),
    }
}

fn addresses_of(certificate: &Path) -> anyhow::Result<Vec<String>> {
    let all = pem_certificates(certificate)?;
    let found = all.first().map(|der| Found::of(der)).transpose()?;
    Ok(found.map(|found| found.addresses).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_or_a_host_name() {
        let kind = |text: &str| match alternative_name(text) {
            Ok(SanType::IpAddress(_)) => "address",
            Ok(SanType::DnsName(_)) => "name",
            _ => "neither",
        };
        assert_eq!(["192.0.2.1", "::1"].map(kind), ["address"; 2]);
        assert_eq!(["etcd-1.example", "*.example"].map(kind), ["name"; 2]);
        assert_eq!(["", "10.0.0.1:2379", "a b", "https://a"].map(kind), ["neither"; 4]);
    }
}
