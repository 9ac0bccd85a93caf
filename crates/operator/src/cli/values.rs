//! Types of flags' values.

use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

use clap::ValueEnum;

/// An address to listen on; `None` disables the server.
pub type BindAddress = Option<SocketAddr>;

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// A JSON object on each line.
    Json,
}

/// Parses an address like Go programs do: `:8081` means every address of the machine.
pub(crate) fn bind_address(text: &str) -> Result<BindAddress, String> {
    if text == "0" {
        return Ok(None);
    }
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) {
        return Ok(Some((Ipv6Addr::UNSPECIFIED, port).into()));
    }
    let addresses = text.to_socket_addrs().map_err(|cause| {
        format!("must be :PORT, HOST:PORT, or 0 to disable the server: {cause}")
    })?;
    // If a name has IPv4 and IPv6 addresses, Go prefers IPv4.
    let mut addresses: Vec<_> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().map(Some).ok_or_else(|| format!("{text} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_every_address() {
        assert_eq!(bind_address(":8081").unwrap().unwrap().to_string(), "[::]:8081");
    }

    #[test]
    fn zero_disables_the_server_and_an_ip_is_used_unchanged() {
        assert_eq!(bind_address("0").unwrap(), None);
        assert_eq!(bind_address("127.0.0.1:9").unwrap().unwrap().to_string(), "127.0.0.1:9");
    }

    #[test]
    fn a_host_name_is_resolved_and_a_wrong_address_is_refused() {
        assert_eq!(bind_address("localhost:9").unwrap().unwrap().to_string(), "127.0.0.1:9");
        for wrong in ["localhost", "8081", ":http", "1.2.3.4:99999"] {
            assert!(bind_address(wrong).unwrap_err().starts_with("must be :PORT, HOST:PORT"));
        }
    }

    #[test]
    fn the_error_for_a_wrong_address_names_the_valid_forms() {
        assert!(bind_address("8081").unwrap_err().contains(":PORT"));
    }
}
