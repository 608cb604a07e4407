//! Which hosts and addresses smoke checks may call. Pure.
//!
//! A function stands inside the account: what it can reach is more than what the writer of a policy may. So nothing is
//! called but the listeners of the rollout and hosts that the operator allows, and none of them at an address that means the
//! function itself or the platform under it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::fault::{Fault, FaultKind};

/// Kinds of addresses that are no service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Special {
    Loopback,
    LinkLocal,
    Metadata,
    Unspecified,
    Multicast,
    Broadcast,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "a loopback address, that is the function itself",
            Self::LinkLocal => "a link-local address, where instance metadata and credentials are served",
            Self::Metadata => "an address of instance metadata, where credentials are served",
            Self::Unspecified => "an unspecified address, that is the function itself",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "the broadcast address",
        })
    }
}

/// Whether the operator lists a host. Names are the same in any letter case, IPv6 addresses with and without brackets.
pub fn is_listed(host: &str, allowed: &[String]) -> bool {
    allowed.iter().any(|listed| bare(listed).eq_ignore_ascii_case(bare(host)))
}

/// A host without the brackets that URLs put around IPv6 addresses.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host)
}

/// Why `host` must not be called at `address`, one of those that it resolves to; `None` if it may be.
///
/// Loopback is called only if the operator lists the host and the host itself is written as loopback: a name that is listed
/// for what it was must not lead there later by what its owner writes into DNS. Nothing lifts the other refusals.
pub fn refusal(host: &str, address: IpAddr, allowed: &[String]) -> Option<Fault> {
    let special = special(address)?;
    if special == Special::Loopback && is_listed(host, allowed) && says_loopback(host) {
        return None;
    }
    let hint = if special == Special::Loopback {
        "let the load balancer's name or `smoke.base` lead to the service; loopback is called only where the template's parameter AllowedHosts lists `localhost` or the address itself"
    } else {
        "let the load balancer's name or `smoke.base` lead to the service; no setting allows this address"
    };
    let whose = if bare(host).parse() == Ok(address) { String::new() } else { format!("{host} at ") };
    Some(Fault::new(FaultKind::Policy, format!("smoke checks do not call {whose}{address}, {special}"), hint))
}

fn says_loopback(host: &str) -> bool {
    let host = bare(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address| special(address) == Some(Special::Loopback))
}

fn special(address: IpAddr) -> Option<Special> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address).or_else(|| embedded(address).and_then(special_v4)),
    }
}

fn special_v4(address: Ipv4Addr) -> Option<Special> {
    match address.octets() {
        // Linux takes 0.0.0.0 for itself; the rest of its block is no address of a server either.
        [0, ..] => Some(Special::Unspecified),
        _ if address.is_loopback() => Some(Special::Loopback),
        _ if address.is_link_local() => Some(Special::LinkLocal),
        _ if address.is_multicast() => Some(Special::Multicast),
        _ if address.is_broadcast() => Some(Special::Broadcast),
        _ => None,
    }
}

fn special_v6(address: Ipv6Addr) -> Option<Special> {
    match address.segments() {
        // What the 169.254 addresses are in IPv6: metadata, DNS, credentials of pods.
        [0xfd00, 0x0ec2, ..] => Some(Special::Metadata),
        _ if address.is_unspecified() => Some(Special::Unspecified),
        _ if address.is_loopback() => Some(Special::Loopback),
        _ if address.is_unicast_link_local() => Some(Special::LinkLocal),
        _ if address.is_multicast() => Some(Special::Multicast),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, or behind NAT64.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => address.to_ipv4(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(hosts: &[&str]) -> Vec<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    /// Whether `host` may be called at `address` when the operator lists `hosts`.
    fn check(host: &str, address: &str, hosts: &[&str], expect: bool) {
        let refused = refusal(host, address.parse().unwrap(), &allowed(hosts));
        assert_eq!(refused.is_none(), expect, "{host} at {address} with {hosts:?}: {refused:?}");
    }

    #[test]
    fn services_are_called_and_the_platform_is_not() {
        for public in ["10.1.2.3", "172.16.0.9", "192.168.1.1", "100.64.0.1", "52.1.2.3", "1.0.0.1"] {
            check("shop.example", public, &[], true);
            check("shop.example", &format!("::ffff:{public}"), &[], true);
            check("shop.example", &format!("64:ff9b::{public}"), &[], true);
        }
        for public in ["2600:1f18::1", "fd12:3456::1", "fd00:ec3::1", "fec0::1"] {
            check("shop.example", public, &[], true);
        }
        // Not even when the operator lists the name and the address.
        for never in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.0",
            "169.254.255.255",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
        ] {
            check("shop.example", never, &["shop.example", never], false);
            check(never, never, &[never], false);
            for form in ["::ffff:", "64:ff9b::"] {
                check("shop.example", &format!("{form}{never}"), &["shop.example", never], false);
            }
        }
        for never in ["::", "fe80::1", "febf::1", "ff02::1", "fd00:ec2::254", "fd00:ec2::23", "::a9fe:a9fe"] {
            check("shop.example", never, &["shop.example", never], false);
            check(never, never, &[never], false);
        }
    }

    #[test]
    fn loopback_is_called_only_where_the_operator_lists_that_very_host() {
        for loopback in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"] {
            check(loopback, loopback, &[], false);
            check(loopback, loopback, &["shop.example"], false);
            check(loopback, loopback, &[loopback], true);
            check("localhost", loopback, &["localhost"], true);
            check("localhost", loopback, &["127.0.0.1"], false);
            // A name whose owner points it here.
            check("shop.example", loopback, &["shop.example", "localhost", loopback], false);
        }
        check("[::1]", "::1", &["::1"], true);
        check("::1", "::1", &["[::1]"], true);
        check("LocalHost", "127.0.0.1", &["localhost"], true);
        check("127.0.0.1", "127.0.0.1", &["127.0.0.2"], false);
    }

    #[test]
    fn a_refusal_says_what_where_and_what_to_do() {
        let told = |host, address: &str| {
            let fault = refusal(host, address.parse().unwrap(), &[]).unwrap();
            format!("{fault}\n{}", fault.hint)
        };
        insta::assert_snapshot!(told("shop.example", "169.254.169.254"), @r"
        smoke checks do not call shop.example at 169.254.169.254, a link-local address, where instance metadata and credentials are served
        let the load balancer's name or `smoke.base` lead to the service; no setting allows this address
        ");
        insta::assert_snapshot!(told("[::1]", "::1"), @r"
        smoke checks do not call ::1, a loopback address, that is the function itself
        let the load balancer's name or `smoke.base` lead to the service; loopback is called only where the template's parameter AllowedHosts lists `localhost` or the address itself
        ");
    }

    /// The same rule for IPv4, written in numbers.
    fn may_be_called(address: u32) -> bool {
        let within = |network: u32, bits: u32| address >> (32 - bits) == network >> (32 - bits);
        !(within(0, 8)
            || within(0x7f00_0000, 8)
            || within(0xa9fe_0000, 16)
            || within(0xe000_0000, 4)
            || address == u32::MAX)
    }

    /// Any address, and often one at the border of a refused block.
    fn any_v4() -> impl Strategy<Value = u32> {
        let borders = [0_u32, 0x0100_0000, 0x7f00_0000, 0x8000_0000, 0xa9fe_0000, 0xa9ff_0000, 0xe000_0000];
        let near = proptest::sample::select(borders.to_vec()).prop_flat_map(|border| {
            (0..4_u32).prop_map(move |step| border.wrapping_add(step).wrapping_sub(2))
        });
        prop_oneof![any::<u32>(), near]
    }

    proptest! {
        #[test]
        fn an_address_is_judged_alike_in_every_form(number in any_v4()) {
            let address = Ipv4Addr::from_bits(number);
            let nat64 = Ipv6Addr::from_bits(0x0064_ff9b_u128 << 96 | u128::from(number));
            for form in [IpAddr::V4(address), IpAddr::V6(address.to_ipv6_mapped()), IpAddr::V6(nat64)] {
                prop_assert_eq!(refusal("shop.example", form, &[]).is_none(), may_be_called(number), "{}", form);
            }
        }

        #[test]
        fn no_list_opens_what_is_not_loopback(bits in any::<u128>(), host in "[a-z.]{1,9}") {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            let lists = [host.clone(), address.to_string(), format!("[{address}]")];
            let closed = refusal(&host, address, &[]).is_some();
            prop_assert_eq!(refusal(&host, address, &lists).is_some(), closed);
        }
    }
}
