//! The command line, as clap reads it.

mod channels;
mod farm;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use millrace_telemetry::{LogFilter, version_line};
use millrace_types::{NodeId, StreamId};

pub use self::{
    channels::{ChannelsArguments, ChannelsCommand},
    farm::{
        Addresses, FarmCommand, FarmCommandArguments, FarmCutArguments, FarmHealArguments,
        FarmUpArguments,
    },
};
use crate::certs::CertsArguments;

/// A live transcoding farm: RTMP in, Low-Latency HLS out.
#[derive(Debug, Parser)]
#[command(name = "millrace", version = version_line(), arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole farm in one process: router, node, origin, api.
    Standalone(Box<StandaloneArguments>),
    /// Run a small farm of separate programs on this host, to try it out.
    Farm(FarmCommandArguments),
    /// Say what this host lacks, and what to do about it.
    Doctor(DoctorArguments),
    /// Show what is live, or one stream with all that is known of it.
    ///
    /// PUBLISHED says how far players can see a rung: media sequence number of the newest segment, a dot, the newest part
    /// in it, counted from 0. "publisher away" means that the encoder is gone and the stream waits for it to come back.
    Streams(StreamsArguments),
    /// Show the nodes of the farm.
    Nodes(NodesArguments),
    /// Say why a stream is where it is, and what happened to it.
    ///
    /// WHO is the program that was chosen, lost or is meant, and its worker's process id. docs/reference/decisions.md says what
    /// each word under WHAT and REASON means. Programs keep their decisions in memory: what one that is gone knew is missing,
    /// and said to be.
    Explain(ExplainArguments),
    /// List channels, or change them and their stream keys.
    Channels(ChannelsArguments),
    /// Make tokens for the API.
    Tokens(TokensArguments),
    /// Write what only the registry knows, channels, the hashes of their keys and orders to nodes, to a file.
    Backup(BackupArguments),
    /// Put the records of a backup back: add what is missing, replace what differs, leave all else.
    Restore(RestoreArguments),
    /// Move every stream off a node, and let it take no new ones, until it is uncordoned.
    ///
    /// Waits until the node is empty, and says how far it is. No viewer and no publisher notices. A stream that no other node
    /// takes stays where it is, and is named with the reason.
    Drain(DrainArguments),
    /// Move a stream to another node, make before break: no viewer and no publisher notices.
    ///
    /// Waits until it is made there. When no node takes it in time it stays where it is, and the order is taken back. It may move again
    /// later, by another order or when its node fails.
    Move(MoveArguments),
    /// Let a node take no new streams; those it has stay.
    Cordon(CordonArguments),
    /// Let a node that was drained or cordoned take streams again.
    Uncordon(OrderArguments),
    /// Check or show the configuration of `millrace standalone`, or check that of a program of its own.
    Config(ConfigArguments),
    /// Make and show the certificates by which the programs of a farm know each other.
    Certs(CertsArguments),
}

/// `millrace standalone`. A flag goes before the file, the file before the default.
#[derive(Clone, Debug, Default, Args)]
pub struct StandaloneArguments {
    /// Settings; without it /etc/millrace/standalone.toml, if it exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Addresses, port 0 takes a free one.
    #[command(flatten)]
    pub listen: ListenArguments,
    /// Where keys are kept; default /var/lib/millrace as root, else $XDG_STATE_HOME/millrace.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where millrace-worker and millrace-worker-av are; default beside this program.
    #[arg(long, value_name = "DIR")]
    pub worker_dir: Option<PathBuf>,
    /// Publish a moving test picture on the channel `demo`.
    #[arg(long)]
    pub demo: bool,
    /// Write URLs and stream key as JSON to this file once a publisher can be taken.
    #[arg(long, value_name = "FILE")]
    pub ready_json: Option<PathBuf>,
    /// What to log, such as `info` or `millrace_node=debug,info` [default: info].
    #[arg(long, value_name = "FILTER")]
    pub log: Option<LogFilter>,
}

/// Where the programs of `millrace standalone` listen.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ListenArguments {
    /// Publishers, RTMP [default: 0.0.0.0:1935].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_rtmp: Option<SocketAddr>,
    /// Publishers, RTMPS; with a certificate only [default: 0.0.0.0:1936].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_rtmps: Option<SocketAddr>,
    /// Players, HTTP [default: 0.0.0.0:8080].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_playback: Option<SocketAddr>,
    /// Players, HTTPS; with a certificate only [default: 0.0.0.0:8443].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_playback_tls: Option<SocketAddr>,
    /// API and console [default: 127.0.0.1:8090].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_api: Option<SocketAddr>,
    /// The node, for the router; loopback only [default: 127.0.0.1:7001].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_link: Option<SocketAddr>,
    /// The origin, for the node [default: 127.0.0.1:7002].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_intake: Option<SocketAddr>,
    /// Metrics and health of the router [default: 127.0.0.1:9101].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_router_admin: Option<SocketAddr>,
    /// Metrics and health of the node [default: 127.0.0.1:9102].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_node_admin: Option<SocketAddr>,
    /// Metrics and health of the origin [default: 127.0.0.1:9103].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_origin_admin: Option<SocketAddr>,
    /// Metrics and health of the API [default: 127.0.0.1:9104].
    #[arg(long, value_name = "ADDR:PORT", value_parser = millrace_telemetry::listen_address)]
    pub listen_api_admin: Option<SocketAddr>,
}

/// `millrace doctor`
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Settings whose ports and directories are looked at.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where millrace-worker and millrace-worker-av are; default beside this program.
    #[arg(long, value_name = "DIR")]
    pub worker_dir: Option<PathBuf>,
    /// JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// Where a running farm is asked.
#[derive(Debug, Args)]
pub struct FarmArguments {
    /// The farm's API.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090", global = true, value_parser = api_url)]
    pub api: String,
    /// Whose certificates an API with https may have (PEM); default those that this host trusts.
    #[arg(long, value_name = "FILE", global = true)]
    pub api_ca: Option<PathBuf>,
    /// A file with the token to show, in its first line; for changes from other hosts.
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// JSON for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

/// A URL that can be asked, without the slash at its end.
fn api_url(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let named =
        host.is_some_and(|host| !host.is_empty() && !host.starts_with([':', '/', '?', '#']));
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '"' | '<' | '>');
    match named && text.chars().all(fits) {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("give http://HOST:PORT or https://HOST:PORT"),
    }
}

/// `millrace streams [ID]`
#[derive(Debug, Args)]
pub struct StreamsArguments {
    /// One stream.
    pub id: Option<StreamId>,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// `millrace explain ID`
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Which stream.
    pub id: StreamId,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// `millrace tokens …`
#[derive(Debug, Args)]
pub struct TokensArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: TokensCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum TokensCommand {
    /// Make a token: its hash goes into FILE, the API's `tokens`; itself is printed, this once.
    Add {
        /// The file; made when it is not there, readable by its owner only.
        file: PathBuf,
        /// Whose token it is, for whoever reads the file.
        name: String,
        /// What it allows.
        #[arg(long, value_enum)]
        role: TokenRole,
    },
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    /// Seeing everything but keys.
    Read,
    /// Changing something.
    Write,
}

impl From<TokenRole> for millrace_api::Role {
    fn from(role: TokenRole) -> Self {
        match role {
            TokenRole::Read => Self::Read,
            TokenRole::Write => Self::Write,
        }
    }
}

/// `millrace backup FILE`
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// Written whole or not at all, readable by its owner only.
    pub file: PathBuf,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// `millrace restore FILE`
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// As `millrace backup` wrote it.
    pub file: PathBuf,
    /// Only say what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// `millrace nodes`
#[derive(Debug, Args)]
pub struct NodesArguments {
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// `millrace cordon NODE`, `millrace uncordon NODE`
#[derive(Debug, Args)]
pub struct OrderArguments {
    /// Which node; `millrace nodes` shows them.
    pub node: NodeId,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// `millrace cordon NODE`
#[derive(Debug, Args)]
pub struct CordonArguments {
    /// Which node, and which farm.
    #[command(flatten)]
    pub order: OrderArguments,
    /// The node is not there: the order waits for it.
    #[arg(long)]
    pub away: bool,
}

/// Longer than any drain: a year.
const LONGEST_DRAIN_S: u64 = 366 * 24 * 3600;

/// `millrace drain NODE`
#[derive(Debug, Args)]
pub struct DrainArguments {
    /// Which node; `millrace nodes` shows them.
    #[arg(required_unless_present = "config", conflicts_with = "config")]
    pub node: Option<NodeId>,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
    /// Instead of a name: the settings of the node, which name it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The order is void when the node starts again; for the host's shutdown.
    #[arg(long)]
    pub until_restart: bool,
    /// Do not wait.
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(..=LONGEST_DRAIN_S))]
    pub timeout: u64,
}

/// `millrace move STREAM`
#[derive(Debug, Args)]
pub struct MoveArguments {
    /// Which stream; `millrace streams` shows them.
    pub stream: StreamId,
    /// The node that is to make it; default the one with the most room.
    #[arg(long, value_name = "NODE")]
    pub to: Option<NodeId>,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
    /// Do not wait: the order stands until the stream has moved or ended.
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=LONGEST_DRAIN_S))]
    pub timeout: u64,
}

/// `millrace config …`
#[derive(Debug, Args)]
pub struct ConfigArguments {
    /// Check or show.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read a file and say what is wrong with it.
    Check(CheckArguments),
    /// Print every value and where it comes from.
    Show(ConfigFile),
}

/// Which file is checked, and as whose.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The file; without it /etc/millrace/standalone.toml, if it exists.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The same, as `millrace standalone` takes it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whose file it is; without it the file's name says so (router.toml, router-1.toml), else it is standalone's.
    #[arg(long, value_enum)]
    pub program: Option<Program>,
}

/// Whose configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// `millrace standalone`.
    Standalone,
    /// `millrace-router`.
    Router,
    /// `millrace-node`.
    Node,
    /// `millrace-origin`.
    Origin,
    /// `millrace-api`.
    Api,
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The file; without it /etc/millrace/standalone.toml, if it exists.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_holds_together() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_listener_of_standalone_has_a_flag() {
        let line = "millrace standalone --listen-rtmp 127.0.0.1:0 --listen-playback 127.0.0.1:0 \
            --listen-rtmps 127.0.0.1:0 --listen-playback-tls 127.0.0.1:0 \
            --listen-api [::1]:0 --listen-link 127.0.0.1:0 --listen-intake 127.0.0.1:0 \
            --listen-router-admin 127.0.0.1:0 --listen-node-admin 127.0.0.1:0 \
            --listen-origin-admin 127.0.0.1:0 --listen-api-admin 127.0.0.1:0 --demo --log debug";
        let Command::Standalone(standalone) = read(line).unwrap().command else { panic!("{line}") };
        assert_eq!(standalone.listen.listen_api, Some("[::1]:0".parse().unwrap()));
        assert!(standalone.demo && standalone.ready_json.is_none());
    }

    #[test]
    fn a_wrong_address_and_a_missing_command_are_usage_errors() {
        assert_eq!(read("millrace standalone --listen-rtmp 1935").unwrap_err().exit_code(), 2);
        assert_eq!(read("millrace").unwrap_err().exit_code(), 2);
        assert!(read("millrace streams demo --json --api http://farm:8090").is_ok());
    }

    #[test]
    fn what_can_be_seen_to_be_wrong_before_the_farm_is_asked_is_a_usage_error() {
        for line in [
            "streams --api nonsense",
            "streams --api http://",
            "streams --api http://:8090",
            "streams --api ftp://farm",
            "streams no/stream",
            "explain UPPER",
            "drain",
            "drain --config node.toml node-1",
            "drain node-1 --timeout 99999999999",
            "cordon",
            "uncordon node,1",
            "channels create two+words",
            "channels rotate",
            "channels revoke news --key news_secret",
            "channels rotate news --overlap 1 --keep-old",
            "channels set news",
            "tokens add file name",
            "tokens add file name --role king",
            "certs issue king a",
            "certs issue node",
            "certs issue node a --days 0",
            "farm up --routers 0",
            "farm up --subnet 256",
            "farm up --addresses elsewhere",
            "farm cut",
            "farm cut node-1 --one-way",
            "standalone --log a=b=c[",
            "standalone --listen-rtmp 1935",
            "config check --program king",
            "config check a --config b",
        ] {
            let error = read(&format!("millrace {line}")).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
        }
        let roles = read("millrace certs issue king a").unwrap_err().to_string();
        assert!(roles.contains("router, node, origin, api, etcd, operator, monitor"), "{roles}");
        let Command::Streams(streams) =
            read("millrace streams --api https://farm/").unwrap().command
        else {
            panic!("streams")
        };
        assert_eq!(streams.farm.api, "https://farm");
    }
}
