//! The command line, as clap reads it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use millrace_telemetry::version_line;

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
    /// Say what this host lacks, and what to do about it.
    Doctor(DoctorArguments),
    /// Show what is live, or one stream with all that is known of it.
    ///
    /// PUBLISHED says how far players can see a rung: media sequence number of the newest segment, a dot, the newest part
    /// in it, counted from 0. "publisher away" means that the encoder is gone and the stream waits for it to come back.
    Streams(StreamsArguments),
    /// Show the nodes of the farm.
    Nodes(NodesArguments),
    /// Move every stream off a node, and let it take no new ones, until it is uncordoned.
    ///
    /// Waits until the node is empty, and says how far it is. No viewer and no publisher notices. A stream that no other node
    /// takes stays where it is, and is named with the reason.
    Drain(DrainArguments),
    /// Let a node take no new streams; those it has stay.
    Cordon(OrderArguments),
    /// Let a node that was drained or cordoned take streams again.
    Uncordon(OrderArguments),
    /// Check or show the configuration of `millrace standalone`, or check that of a program of its own.
    Config(ConfigArguments),
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
    pub log: Option<String>,
}

/// Where the programs of `millrace standalone` listen.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ListenArguments {
    /// Publishers, RTMP [default: 0.0.0.0:1935].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_rtmp: Option<SocketAddr>,
    /// Publishers, RTMPS; with a certificate only [default: 0.0.0.0:1936].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_rtmps: Option<SocketAddr>,
    /// Players, HTTP [default: 0.0.0.0:8080].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_playback: Option<SocketAddr>,
    /// Players, HTTPS; with a certificate only [default: 0.0.0.0:8443].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_playback_tls: Option<SocketAddr>,
    /// API and console [default: 127.0.0.1:8090].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_api: Option<SocketAddr>,
    /// The node, for the router; loopback only [default: 127.0.0.1:7001].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_link: Option<SocketAddr>,
    /// The origin, for the node [default: 127.0.0.1:7002].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_intake: Option<SocketAddr>,
    /// Metrics and health of the router [default: 127.0.0.1:9101].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_router_admin: Option<SocketAddr>,
    /// Metrics and health of the node [default: 127.0.0.1:9102].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_node_admin: Option<SocketAddr>,
    /// Metrics and health of the origin [default: 127.0.0.1:9103].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen_origin_admin: Option<SocketAddr>,
    /// Metrics and health of the API [default: 127.0.0.1:9104].
    #[arg(long, value_name = "ADDR:PORT")]
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
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090")]
    pub api: String,
    /// JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// `millrace streams [ID]`
#[derive(Debug, Args)]
pub struct StreamsArguments {
    /// One stream.
    pub id: Option<String>,
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
    /// Which node.
    pub node: Option<String>,
    /// A file with the API's token; needed where the API is on another host.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Which farm.
    #[command(flatten)]
    pub farm: FarmArguments,
}

/// `millrace drain NODE`
#[derive(Debug, Args)]
pub struct DrainArguments {
    /// Which node, where.
    #[command(flatten)]
    pub order: OrderArguments,
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
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
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
    /// Whose file it is; without it the file's name says so (router.toml), else it is standalone's.
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
}
