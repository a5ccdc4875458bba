//! Where to publish: `rtmp://host[:port]/app`.

use crate::PublishError;

const DEFAULT_PORT: u16 = 1_935;

/// A parsed publish URL, without the stream key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishUrl {
    /// Host and port, as the system resolves them.
    pub address: String,
    /// The RTMP application.
    pub app: String,
    /// The URL as RTMP's `tcUrl` wants it.
    pub whole: String,
}

impl PublishUrl {
    pub fn parse(text: &str) -> Result<Self, PublishError> {
        let parse = || {
            let (authority, path) = text.strip_prefix("rtmp://")?.split_once('/')?;
            let app = path.trim_matches('/');
            let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| {
                !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
            });
            let address = match has_port {
                true => authority.to_owned(),
                false => format!("{authority}:{DEFAULT_PORT}"),
            };
            let whole = text.trim_end_matches('/').to_owned();
            (!authority.is_empty() && !app.is_empty()).then(|| Self {
                address,
                app: app.to_owned(),
                whole,
            })
        };
        parse().ok_or_else(|| PublishError::Url(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_and_application_are_read_and_the_port_may_be_left_out() {
        let url = PublishUrl::parse("rtmp://[::1]:1936/live/").unwrap();
        assert_eq!((url.address.as_str(), url.app.as_str()), ("[::1]:1936", "live"));
        assert_eq!(url.whole, "rtmp://[::1]:1936/live");
        let url = PublishUrl::parse("rtmp://farm.example/live").unwrap();
        assert_eq!(url.address, "farm.example:1935");
        for bad in ["http://a/live", "rtmp://a", "rtmp:///live", "rtmp://a/"] {
            assert!(PublishUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
