//! Which targets are refused, before and after resolving.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::kit::target;
use crate::dial::{Denied, Host, TargetRules};

const CLOSED: TargetRules = TargetRules { allow_private: false, own: Vec::new() };
const OPEN: TargetRules = TargetRules { allow_private: true, own: Vec::new() };

fn own(address: &str) -> Vec<SocketAddr> {
    vec![address.parse().unwrap()]
}

#[test]
fn addresses_of_this_machine_and_its_networks_are_refused_unless_allowed() {
    for (host, denied) in [
        ("127.0.0.1", Denied::Loopback),
        ("127.255.255.254", Denied::Loopback),
        ("0.0.0.0", Denied::Loopback),
        ("0.1.2.3", Denied::Loopback),
        ("[::1]", Denied::Loopback),
        ("::", Denied::Loopback),
        ("::ffff:127.0.0.1", Denied::Loopback),
        ("[::ffff:7f00:1]", Denied::Loopback),
        ("::127.0.0.1", Denied::Loopback),
        ("64:ff9b::127.0.0.1", Denied::Loopback),
        ("2002:7f00:1::", Denied::Loopback),
        ("localhost", Denied::Loopback),
        ("LocalHost.", Denied::Loopback),
        ("a.b.localhost", Denied::Loopback),
        ("169.254.169.254", Denied::LinkLocal),
        ("::ffff:169.254.169.254", Denied::LinkLocal),
        ("fe80::1", Denied::LinkLocal),
        ("febf::1", Denied::LinkLocal),
        ("10.0.0.1", Denied::Private),
        ("172.16.0.1", Denied::Private),
        ("172.31.255.255", Denied::Private),
        ("192.168.1.1", Denied::Private),
        ("100.64.0.1", Denied::Private),
        ("100.127.255.255", Denied::Private),
        ("fc00::1", Denied::Private),
        ("fdff::1", Denied::Private),
        ("fec0::1", Denied::Private),
        ("64:ff9b:1::a00:1", Denied::Private),
    ] {
        assert_eq!(CLOSED.check_literal(&target(host, 80)), Err(denied), "{host}");
        assert_eq!(OPEN.check_literal(&target(host, 80)), Ok(()), "{host}");
    }
}

#[test]
fn what_no_tcp_peer_has_and_what_is_no_name_is_refused_always() {
    for (host, denied) in [
        ("224.0.0.1", Denied::NotUnicast),
        ("255.255.255.255", Denied::NotUnicast),
        ("240.0.0.1", Denied::NotUnicast),
        ("192.0.0.192", Denied::NotUnicast),
        ("ff02::1", Denied::NotUnicast),
        ("127.1", Denied::NumericName),
        ("0x7f.1", Denied::NumericName),
        ("0x7f000001", Denied::NumericName),
        ("0X7F.0.0.0x1", Denied::NumericName),
        ("2130706433", Denied::NumericName),
        ("0177.0.0.1", Denied::NumericName),
        ("127.0.0.1.", Denied::NumericName),
        ("1.2.3.4.5", Denied::NumericName),
        ("foo.0x", Denied::NumericName),
        ("", Denied::BadName),
        (".", Denied::BadName),
        ("localhost..", Denied::BadName),
        ("fe80::1%lo", Denied::BadName),
        ("a b", Denied::BadName),
        ("a\r\nb", Denied::BadName),
        ("user@host", Denied::BadName),
    ] {
        for rules in [CLOSED, OPEN] {
            assert_eq!(rules.check_literal(&target(host, 80)), Err(denied), "{host:?}");
        }
    }
}

#[test]
fn what_only_looks_alike_is_let_through() {
    for host in [
        "8.8.8.8",
        "126.255.255.255",
        "128.0.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "169.253.0.1",
        "198.18.0.1",
        "223.255.255.255",
        "2001:db8::1",
        "fbff::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::",
        "example.com",
        "example.com.",
        "localhost.example",
        "notlocalhost",
        "10.example",
        "a_b.example",
        "x0x7f",
        "xn--bcher-kva.example",
    ] {
        assert_eq!(CLOSED.check_literal(&target(host, 80)), Ok(()), "{host}");
    }
}

#[test]
fn the_gateways_own_address_is_refused_though_private_targets_are_allowed() {
    for (own_at, host, port, is_own) in [
        ("127.0.0.1:2260", "127.0.0.1", 2260, true),
        ("127.0.0.1:2260", "::ffff:127.0.0.1", 2260, true),
        ("127.0.0.1:2260", "0.0.0.0", 2260, true),
        ("127.0.0.1:2260", "::", 2260, true),
        ("127.0.0.1:2260", "localhost", 2260, true),
        ("127.0.0.1:2260", "a.localhost", 2260, true),
        ("[::1]:2260", "localhost", 2260, true),
        ("[::1]:2260", "::", 2260, true),
        ("0.0.0.0:2260", "127.0.0.1", 2260, true),
        ("0.0.0.0:2260", "127.8.8.8", 2260, true),
        ("0.0.0.0:2260", "0.0.0.0", 2260, true),
        ("0.0.0.0:2260", "localhost", 2260, true),
        ("[::]:2260", "127.0.0.1", 2260, true),
        ("[::]:2260", "::1", 2260, true),
        ("192.0.2.1:2260", "192.0.2.1", 2260, true),
        ("127.0.0.1:2260", "127.0.0.1", 2261, false),
        ("127.0.0.1:2260", "127.0.0.2", 2260, false),
        ("192.0.2.1:2260", "127.0.0.1", 2260, false),
        ("0.0.0.0:2260", "192.0.2.1", 2260, false),
        ("0.0.0.0:2260", "2001:db8::1", 2260, false),
    ] {
        let rules = TargetRules { allow_private: true, own: own(own_at) };
        let expected = if is_own { Err(Denied::OwnAddress) } else { Ok(()) };
        assert_eq!(rules.check_literal(&target(host, port)), expected, "{own_at} {host}:{port}");
    }
}

#[test]
fn a_gateway_that_listens_everywhere_knows_each_of_this_machines_addresses() {
    // Connecting a UDP socket sends nothing, and tells which of this machine's addresses leads there, if any does.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let Ok(()) = socket.connect("192.0.2.1:9") else { return };
    let outward = SocketAddr::new(socket.local_addr().unwrap().ip(), 2260);
    let rules = TargetRules { allow_private: true, own: own("0.0.0.0:2260") };
    assert_eq!(rules.check_addr(outward), Err(Denied::OwnAddress), "{outward}");
}

#[test]
fn a_resolved_address_is_judged_like_a_literal_one() {
    for (ip, denied) in
        [("127.0.0.1", Some(Denied::Loopback)), ("::ffff:10.0.0.1", Some(Denied::Private)), ("8.8.8.8", None)]
    {
        let address = SocketAddr::new(ip.parse().unwrap(), 443);
        assert_eq!(CLOSED.check_addr(address).err(), denied);
    }
}

#[test]
fn hosts_are_read_as_they_stand_in_an_authority() {
    let ip = |text: &str| Host::Ip(text.parse::<IpAddr>().unwrap());
    assert_eq!(Host::parse("[2001:db8::1]"), ip("2001:db8::1"));
    assert_eq!(Host::parse("2001:db8::1"), ip("2001:db8::1"));
    assert_eq!(Host::parse("192.0.2.1"), ip("192.0.2.1"));
    assert_eq!(Host::parse("[192.0.2.1]"), Host::Name("[192.0.2.1]".into()));
    assert_eq!(target("2001:db8::1", 443).to_string(), "[2001:db8::1]:443");
    assert_eq!(target("Example.com", 443).to_string(), "Example.com:443");
}
