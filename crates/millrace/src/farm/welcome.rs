//! What `millrace farm up` says once the farm works: where to publish and watch, and a drill.

use std::env;

use serde_json::Value;

use super::{
    place::{self, Place},
    up::{CHANNEL, Farm, PAUSE},
};

impl Farm {
    /// Where to publish and watch, and what to try.
    pub(super) fn welcome(&self, ready: &Value) -> String {
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let (api, rtmp, key) = (text("api"), text("rtmp"), text("stream_key"));
        let others = |listener, first: &'static str| {
            let found = self.listeners(listener).filter(move |(name, _)| *name != first);
            found.map(|(name, at)| (name.to_owned(), at)).collect::<Vec<_>>()
        };
        let routers = others("rtmp", "router-1");
        let routers =
            routers.iter().map(|(name, at)| format!("  or to {name}: 'rtmp://{at}/live/{key}'\n"));
        let origins = others("playback", "origin-1");
        let origins: String = origins
            .iter()
            .map(|(name, at)| format!("  or at {name}: http://{at}/watch/{CHANNEL}\n"))
            .collect();
        let origin_step = match origins.is_empty() {
            true => {
                "kill -9 the origin               the picture stands until it is back; it gets the whole window then\n     (with --origins 2 another goes on)"
            }
            false => {
                "kill -9 the origin that explain names  the other goes on within 2 s; reload the page there"
            }
        };
        let millrace = env::args().next().unwrap_or_else(|| "millrace".to_owned());
        let token = match &self.place {
            Place::Network(_) => {
                format!(" --token-file {}", place::token(self.folder.path()).display())
            }
            Place::Loopback(_) => String::new(),
        };
        let pids = self.programs.iter().map(|running| {
            let pid = running.child.id().map_or("-".to_owned(), |pid| pid.to_string());
            format!("  {:<10} {pid}\n", running.planned.name)
        });
        format!(
            "\nThe farm is up. Logs and settings are in {dir}.

  publish  ffmpeg -re -stream_loop -1 -i FILE -c:v libx264 -preset veryfast -g 60 -c:a aac -f flv '{rtmp}/{key}'
{routers}  watch    {watch}
{origins}  console  {api}/

Process ids:
{pids}
A drill, while you watch:
  1. {millrace} explain {CHANNEL} --api {api}   where the stream is, and its worker
  2. kill -9 WORKER                       the picture goes on; explain shows the death and the successor
  3. kill -9 the node that makes it       another goes on within 3 s; the dead one is back after {pause} s
  4. kill -9 one etcd, or all three       nothing happens to what is live
  5. kill -9 the router                   the encoder has to connect again, to any router
  6. {origin_step}
  7. {millrace} move {CHANNEL} --api {api}{token}   another node makes it, no frame is lost
  8. {millrace} drain NODE --api {api}{token}   its streams go elsewhere, no frame is lost; `uncordon NODE` takes it back
Other settings: edit {dir}/NAME.toml, then kill that program. It is started again with the file as you left it.
{partitions}

Ctrl-C stops everything.",
            dir = self.folder.path().display(),
            watch = text("watch"),
            routers = routers.collect::<String>(),
            pids = pids.collect::<String>(),
            pause = PAUSE.as_secs(),
            partitions = self.partitions(&millrace),
        )
    }

    /// Drills that need hosts of their own, or why there are none.
    fn partitions(&self, millrace: &str) -> String {
        let network = match &self.place {
            Place::Network(network) => network,
            Place::Loopback(why) => {
                return format!(
                    "Partition drills are off: all programs are on one host at addresses of 127.0.0.0/8 ({why})."
                );
            }
        };
        let [ca, certificate, key] =
            place::monitor(self.folder.path()).map(|file| file.display().to_string());
        format!(
            "
Partitions, as root in another terminal. Every program has a host of its own in {subnet}; this machine reaches them by {uplink}.
  9. {millrace} farm cut NODE ROUTER        those that explain names: the other node makes it within 3 s, no frame is lost
 10. {millrace} farm heal                   ends every cut; what the old node still holds is refused, and let go of
 11. {millrace} farm cut NODE ROUTER --one-way   only what the node sends is lost: the same
 12. {millrace} farm cut NODE ORIGIN        the same: the node cannot deliver, another can
 13. {millrace} farm cut NODE               its cable is pulled: the same, and nodes shows it gone after 3 s
 14. {millrace} farm cut NODE etcd-1 etcd-2 etcd-3   its streams stay, and it gets no new ones
They know each other by certificates. Metrics: curl --cacert {ca} --cert {certificate} --key {key} https://HOST:PORT/metrics
Changes by the API, and a backup, need that --token-file.",
            subnet = network.subnet(),
            uplink = network.uplink(),
        )
    }
}
