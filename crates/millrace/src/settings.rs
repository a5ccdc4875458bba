//! The settings of `millrace standalone`: defaults, then the file, then flags. Remembers where each value came from.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use millrace_registry::OwnSettings;
use millrace_sched::LadderConfig;
use millrace_telemetry::{LogFilter, SettingsError, apart, read_text, said, sifted};
use serde::{Deserialize, Serialize};

use crate::{arguments::ListenArguments, prerequisite::Prerequisite, state_dir::StateDir};

/// Read when no `--config` is given and it exists.
const DEFAULT_FILE: &str = "/etc/millrace/standalone.toml";

/// The file: a section per program, and the ladder.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sections {
    /// As in router.toml.
    pub router: millrace_router::Config,
    /// As in node.toml.
    pub node: millrace_node::Config,
    /// As in origin.toml.
    pub origin: millrace_origin::Config,
    /// As in api.toml.
    pub api: millrace_api::Config,
    /// What to log, such as `info` or `millrace_node=debug,info`.
    pub log: LogFilter,
    /// The router's ladder in a section of its own; goes before `router.ladder`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ladder: Option<LadderConfig>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// The file.
    File,
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Flag => "flag",
        })
    }
}

/// One listener of standalone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The flag that changes it.
    pub flag: &'static str,
    /// Its key in the file.
    pub key: &'static str,
    /// Where it is to be.
    pub address: SocketAddr,
}

/// All settings and their sources.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The values.
    pub sections: Sections,
    file: Option<PathBuf>,
    in_file: toml::Table,
    by_flag: Vec<&'static str>,
}

impl Settings {
    /// Reads `file`, or the default file if there is one.
    ///
    /// # Errors
    /// [`Prerequisite`] for a file that cannot be read or understood; it names the line.
    pub fn load(file: Option<&Path>) -> Result<Self, Prerequisite> {
        let default = Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists());
        let Some(path) = file.or(default) else { return Ok(Self::default()) };
        let named = |error: SettingsError| {
            Prerequisite(error.after(&format!("{}: ", path.display())).to_string())
        };
        let text = read_text(path).map_err(|error| Prerequisite(error.to_string()))?;
        let settings = Self::parse(&text).map_err(named)?;
        settings.values().map_err(named)?;
        Ok(Self { file: Some(path.to_path_buf()), ..settings })
    }

    /// One mistake is told with its line; more than one, each with its section and key.
    fn parse(text: &str) -> Result<Self, SettingsError> {
        let mut sections: Sections =
            toml::from_str(text).map_err(|error| mistakes(text, &error))?;
        if let Some(ladder) = sections.ladder.take() {
            sections.router.ladder = ladder;
        }
        let mut in_file: toml::Table = toml::from_str(text).map_err(SettingsError::of)?;
        if let Some(ladder) = in_file.remove("ladder") {
            let router = in_file.entry("router").or_insert_with(|| toml::Table::new().into());
            if let Some(router) = router.as_table_mut() {
                router.insert("ladder".to_owned(), ladder);
            }
        }
        Ok(Self { sections, in_file, ..Self::default() })
    }

    /// Whether standalone would start by these settings, as far as can be seen without opening an address; [`Self::place`] comes
    /// first.
    ///
    /// # Errors
    /// [`SettingsError`] that names each key.
    pub fn check(&self) -> Result<(), SettingsError> {
        let Sections { router, node, origin, api, .. } = &self.sections;
        let farm = [router.farm_tls(), node.farm_tls(), origin.farm_tls(), api.farm_tls()];
        if farm.iter().any(Option::is_some) {
            let why = "farm_tls is for programs of their own: standalone speaks to itself on loopback; remove it";
            return Err(SettingsError::of(why));
        }
        let listeners = self.listeners().into_iter().map(|it| (it.key, it.address));
        SettingsError::all([
            apart(&listeners.collect::<Vec<_>>()),
            router.files().map_err(|error| SettingsError::of(error).after("router.")),
            origin.files().map_err(|error| SettingsError::of(error).after("origin.")),
            api.files().map_err(|error| SettingsError::of(error).after("api.")),
            node.files().map_err(|error| SettingsError::of(error).after("node.")),
        ])
    }

    /// The file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn values(&self) -> Result<(), SettingsError> {
        let Sections { router, node, origin, api, .. } = &self.sections;
        SettingsError::all([
            router.values().map_err(|error| error.after("router.")),
            node.values().map_err(|error| error.after("node.")),
            origin.values().map_err(|error| error.after("origin.")),
            api.values().map_err(|error| error.after("api.")),
        ])
    }

    /// Puts the addresses given as flags in.
    pub fn listen(&mut self, flags: &ListenArguments) {
        let slots = slots(&mut self.sections).into_iter();
        for ((_, key, slot), given) in slots.zip(given(flags)) {
            if let Some(address) = given {
                *slot = address;
                self.by_flag.push(key);
            }
        }
    }

    /// Puts the filter given as a flag in.
    pub fn log(&mut self, filter: Option<&LogFilter>) {
        if let Some(filter) = filter {
            self.sections.log = filter.clone();
            self.by_flag.push("log");
        }
    }

    /// Puts the sockets where this user's lie, unless the file says where.
    pub fn place(&mut self, dirs: &StateDir) {
        if self.source("node.run_dir") == Source::Default {
            self.sections.node.run_dir.clone_from(&dirs.run);
        }
    }

    /// Every listener that will be opened, publishers' first; one with TLS only where there is a certificate.
    pub fn listeners(&self) -> Vec<Listener> {
        let mut sections = self.sections.clone();
        let closed = [
            (sections.router.tls.is_none(), "router.listen_rtmps"),
            (sections.origin.tls.is_none(), "origin.listen_playback_tls"),
        ];
        let opened = |key| !closed.contains(&(true, key));
        let slots = slots(&mut sections).into_iter().filter(|(_, key, _)| opened(*key));
        slots.map(|(flag, key, address)| Listener { flag, key, address: *address }).collect()
    }

    /// Where the value of a dotted key came from.
    pub fn source(&self, key: &str) -> Source {
        if self.by_flag.contains(&key) {
            return Source::Flag;
        }
        let mut names = key.split('.');
        let mut value = names.next().and_then(|name| self.in_file.get(name));
        for name in names {
            value = value.and_then(|table| table.get(name));
        }
        if value.is_some() { Source::File } else { Source::Default }
    }
}

/// All that is wrong with a text that cannot be read for `first`.
fn mistakes(text: &str, first: &toml::de::Error) -> SettingsError {
    let first = SettingsError::of(said(first));
    let Ok(table) = toml::from_str::<toml::Table>(text) else { return first };
    let of = |(name, value): (String, toml::Value)| {
        let wrong = |error: SettingsError| error.after(&format!("[{name}]: "));
        match (name.as_str(), value) {
            ("router", toml::Value::Table(own)) => {
                section::<millrace_router::Config>(own).map_err(wrong)
            }
            ("node", toml::Value::Table(own)) => {
                section::<millrace_node::Config>(own).map_err(wrong)
            }
            ("origin", toml::Value::Table(own)) => {
                section::<millrace_origin::Config>(own).map_err(wrong)
            }
            ("api", toml::Value::Table(own)) => section::<millrace_api::Config>(own).map_err(wrong),
            (_, value) => {
                sifted::<Sections>([(name.clone(), value)].into_iter().collect()).map(drop)
            }
        }
    };
    match SettingsError::all(table.into_iter().map(of)) {
        Err(all) if all.count() > 1 => all,
        _ => first,
    }
}

fn section<C: OwnSettings>(own: toml::Table) -> Result<(), SettingsError> {
    sifted::<C>(own)?.values()
}

/// What a program says of its settings, with the section before it: `origin.tls: …`.
pub fn of_section(section: &str, error: impl fmt::Display) -> Prerequisite {
    Prerequisite(format!("{section}.{error}"))
}

/// Flag, key and value of every listener.
fn slots(sections: &mut Sections) -> [(&'static str, &'static str, &mut SocketAddr); 11] {
    let Sections { router, node, origin, api, .. } = sections;
    [
        ("--listen-rtmp", "router.listen_rtmp", &mut router.listen_rtmp),
        ("--listen-rtmps", "router.listen_rtmps", &mut router.listen_rtmps),
        ("--listen-playback", "origin.listen_playback", &mut origin.listen_playback),
        ("--listen-playback-tls", "origin.listen_playback_tls", &mut origin.listen_playback_tls),
        ("--listen-api", "api.listen_api", &mut api.listen_api),
        ("--listen-link", "node.listen_link", &mut node.listen_link),
        ("--listen-intake", "origin.listen_intake", &mut origin.listen_intake),
        ("--listen-router-admin", "router.listen_admin", &mut router.listen_admin),
        ("--listen-node-admin", "node.listen_admin", &mut node.listen_admin),
        ("--listen-origin-admin", "origin.listen_admin", &mut origin.listen_admin),
        ("--listen-api-admin", "api.listen_admin", &mut api.listen_admin),
    ]
}

/// The flags in the order of [`slots`].
fn given(flags: &ListenArguments) -> [Option<SocketAddr>; 11] {
    [
        flags.listen_rtmp,
        flags.listen_rtmps,
        flags.listen_playback,
        flags.listen_playback_tls,
        flags.listen_api,
        flags.listen_link,
        flags.listen_intake,
        flags.listen_router_admin,
        flags.listen_node_admin,
        flags.listen_origin_admin,
        flags.listen_api_admin,
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::arguments::{Arguments, Command};

    const EXAMPLE: &str = include_str!("../config/standalone.toml");

    /// Whether an example has the key, set or not.
    fn says(example: &str, key: &str) -> bool {
        let mut lines = example.lines().map(|line| line.trim_start_matches("# "));
        lines.any(|line| line.starts_with(&format!("{key} =")))
    }

    #[test]
    fn the_shipped_example_says_what_holds_without_it_and_leaves_no_key_out() {
        let example = Settings::parse(EXAMPLE).unwrap().sections;
        assert_eq!(json!(example), json!(Sections::default()));
        let sections = json!(Sections::default());
        for (section, keys) in sections.as_object().unwrap() {
            let keys = keys.as_object().map_or(vec![section], |keys| keys.keys().collect());
            for key in keys
                .into_iter()
                .filter(|key| !["ladder", "farm_tls", "hot", "capacity"].contains(&key.as_str()))
            {
                assert!(says(EXAMPLE, key), "{section}.{key} is not in the example");
            }
        }
    }

    /// What an example says, read as that program's settings; its registry must be one that programs can use.
    fn read(program: &str, text: &str) -> Value {
        let mut file: toml::Table = toml::from_str(text).unwrap();
        let registry = file.remove("registry").unwrap();
        registry.try_into::<millrace_registry::RegistryConfig>().unwrap().check().unwrap();
        let log = file.remove("log").unwrap();
        assert_eq!(log.try_into::<LogFilter>().unwrap(), LogFilter::default());
        match program {
            "router" => json!(file.try_into::<millrace_router::Config>().unwrap()),
            "node" => json!(file.try_into::<millrace_node::Config>().unwrap()),
            "origin" => json!(file.try_into::<millrace_origin::Config>().unwrap()),
            _ => json!(file.try_into::<millrace_api::Config>().unwrap()),
        }
    }

    #[test]
    fn the_shipped_example_of_each_program_says_what_holds_without_it_and_leaves_no_key_out() {
        let defaults = json!(Sections::default());
        let registry = json!(millrace_registry::RegistryConfig::default());
        for (program, text) in [
            ("router", include_str!("../config/router.toml")),
            ("node", include_str!("../config/node.toml")),
            ("origin", include_str!("../config/origin.toml")),
            ("api", include_str!("../config/api.toml")),
        ] {
            assert_eq!(read(program, text), defaults[program], "{program}");
            let own = defaults[program].as_object().unwrap().keys();
            for key in own.chain(registry.as_object().unwrap().keys()) {
                let is_section = ["ladder", "hot", "capacity"].contains(&key.as_str());
                assert!(says(text, key) || is_section, "{key} is not in the example of {program}");
            }
        }
        for key in defaults["node"]["capacity"].as_object().unwrap().keys() {
            let both = [EXAMPLE, include_str!("../config/node.toml")];
            assert!(both.iter().all(|text| says(text, key)), "capacity.{key} is not in an example");
        }
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let text = "[router]\nlisten_rtmp = '127.0.0.1:1'\n[api]\nlisten_api = '127.0.0.1:2'\n\
            [[ladder.rung]]\nname = 'low'\nshort_side = 240\nbitrate_kbps = 300";
        let mut settings = Settings::parse(text).unwrap();
        let line = ["millrace", "standalone", "--listen-rtmp", "127.0.0.1:3"];
        let Command::Standalone(flags) = Arguments::parse_from(line).command else { panic!() };
        settings.listen(&flags.listen);
        let value = |key: &str| {
            let listener = settings.listeners().into_iter().find(|it| it.key == key).unwrap();
            (listener.address.port(), settings.source(key))
        };
        assert_eq!(value("router.listen_rtmp"), (3, Source::Flag));
        assert_eq!(value("api.listen_api"), (2, Source::File));
        assert_eq!(value("origin.listen_playback"), (8080, Source::Default));
        assert_eq!(settings.sections.router.ladder.rung[0].short_side, 240);
        assert_eq!(settings.source("router.ladder.rung"), Source::File);
        assert_eq!(Settings::parse("log = 'debug'").unwrap().source("log"), Source::File);
        settings.log(Some(&"warn".parse().unwrap()));
        assert_eq!(
            (settings.sections.log.as_str(), settings.source("log")),
            ("warn", Source::Flag)
        );
    }

    #[test]
    fn a_misspelled_key_or_section_is_named() {
        for (text, wrong) in
            [("[ruoter]", "ruoter"), ("[node]\nnmae = 'a'", "nmae"), ("log = 'a=b=c['", "a=b=c[")]
        {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn numbers_that_no_program_can_work_with_are_named_with_what_they_may_be() {
        for (text, wrong) in [
            ("router.max_bitrate_kbps = 0", "router.max_bitrate_kbps = 0: give 1 to 10000000"),
            ("router.max_bitrate_kbps = 9223372036854775807", "router.max_bitrate_kbps = 92"),
            ("router.max_connections = 0", "router.max_connections = 0: give 1"),
            ("router.max_connections_per_address = 0", "router.max_connections_per_address"),
            ("router.hot.viewers = 0", "router.hot.viewers = 0: give 1"),
            ("router.hot.share_percent = 255", "router.hot.share_percent = 255: give 0 to 100"),
            ("origin.max_connections = 0", "origin.max_connections = 0: give 1"),
            ("origin.keep_ended_s = 9223372036854775807", "origin.keep_ended_s"),
            ("origin.idle_end_s = 1", "origin.idle_end_s = 1: give 40"),
            ("node.worker_memory_bytes = 4096", "node.worker_memory_bytes = 4096: give"),
            (
                "node.capacity.host_cpu_millicores = 0",
                "node.capacity.host_cpu_millicores = 0: give",
            ),
            (
                "node.capacity.egress_bits_per_second = 0",
                "node.capacity.egress_bits_per_second = 0",
            ),
            ("api.rotation_overlap_s = 9223372036854775807", "api.rotation_overlap_s"),
        ] {
            let error = Settings::parse(text).unwrap().values().unwrap_err().to_string();
            assert!(error.starts_with(wrong), "{text}: {error}");
        }
        Settings::default().values().unwrap();
    }

    #[test]
    fn every_listener_has_a_flag_of_its_own() {
        assert_eq!(Settings::default().listeners().len(), 9, "none with TLS without a certificate");
        let tls = "tls = { certificate = 'a', key = 'b' }";
        let settings = Settings::parse(&format!("[router]\n{tls}\n[origin]\n{tls}")).unwrap();
        let listeners = settings.listeners();
        let ports: std::collections::BTreeSet<_> =
            listeners.iter().map(|listener| listener.address.port()).collect();
        assert_eq!(ports.len(), 11);
        let value: Value = json!(Sections::default());
        for Listener { key, address, .. } in listeners {
            let (section, name) = key.split_once('.').unwrap();
            assert_eq!(value[section][name], address.to_string());
        }
    }
}
