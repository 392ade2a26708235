//! Origins: whose page sends a request (RFC 6454), as browsers write them.

/// The scheme, host and port of pages. Two are equal where browsers take them for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// With the colon: `:80` or `:443`, by the scheme.
    default_port: &'static str,
    /// Host and port, in small letters and without the default port.
    authority: String,
}

impl Origin {
    /// None where the text is no origin of pages, such as `null`.
    pub fn parse(text: &str) -> Option<Origin> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = text.split_once("://")?;
        let default_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        // An address of IPv6 has colons of its own.
        let has_port = port.is_none_or(|port| port.ends_with(']') || port.parse::<u16>().is_ok());
        let is_one = !authority.is_empty() && authority.chars().all(plain) && has_port;
        let authority = authority.strip_suffix(default_port).unwrap_or(authority).to_owned();
        is_one.then_some(Origin { default_port, authority })
    }

    /// Whether a request's `Host` names this host and port. Schemes are not compared, because
    /// behind a proxy that ends TLS we do not know ours.
    pub fn is_at(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        host.strip_suffix(self.default_port).unwrap_or(&host) == self.authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap_or_else(|| panic!("{text} is one"))
    }

    #[test]
    fn a_default_port_and_large_letters_make_no_difference() {
        assert_eq!(origin("https://Example.COM:443"), origin("https://example.com"));
        assert_eq!(origin("http://[::1]:80"), origin("http://[::1]"));
        assert_ne!(origin("https://example.com:80"), origin("https://example.com"));
        assert_ne!(origin("http://example.com"), origin("https://example.com"));
    }

    #[test]
    fn what_has_a_path_or_no_host_is_no_origin() {
        for text in [
            "null",
            "*",
            "example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "https://*.example.com",
            "https://me@a",
            "https://a b",
            "https://a:port",
            "https://a:",
            "ftp://a",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
