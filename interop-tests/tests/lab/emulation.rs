//! The lab's internet does what it is told.

use super::traffic::{address_of, arrives, is_silent, passes, ping, ping_passes, tcp, udp_on};
use anyhow::Result;
use converge_interop_tests::Lab;
use std::{io::ErrorKind, net::UdpSocket, time::Duration};

in_a_lab! { job Direct, laptop Direct:
    hosts_reach_each_other_and_nothing_else,
    delay_is_felt_by_every_packet,
    full_loss_lets_nothing_through,
    cut_lets_nothing_through_until_it_is_healed,
    cut_from_one_host_leaves_the_others,
    what_is_on_its_way_when_it_is_cut_is_lost,
    dropped_udp_is_silent_and_tcp_passes,
    rejected_udp_is_refused_and_tcp_passes,
    packets_beyond_the_mtu_are_reported,
    packets_beyond_the_mtu_can_disappear,
    rate_bounds_what_passes,
    overtaken_packets_arrive_out_of_order,
}

/// A socket on the laptop, and one at the relay's host.
fn sockets(lab: &Lab) -> Result<(UdpSocket, UdpSocket)> {
    Ok((udp_on(lab.laptop())?, udp_on(lab.relay())?))
}

fn hosts_reach_each_other_and_nothing_else(lab: &Lab) -> Result<()> {
    let sockets = [lab.relay(), lab.job(), lab.laptop()].map(|host| Ok((host, udp_on(host)?)));
    let sockets = sockets.into_iter().collect::<Result<Vec<_>>>()?;
    for (from_host, from) in &sockets {
        for (to_host, to) in sockets.iter().filter(|(host, _)| host.address() != from_host.address()) {
            let source = arrives(from, to, address_of(to, to_host)?, "hello")?;
            assert_eq!(source, address_of(from, from_host)?.into());
        }
        // Somebody else's example network, behind the default route of this machine.
        from.send_to(b"hello", "198.18.0.1:9")?;
        assert!(is_silent(from)?);
    }
    Ok(())
}

fn delay_is_felt_by_every_packet(lab: &Lab) -> Result<()> {
    lab.laptop().uplink().delay(Duration::from_millis(50));
    lab.relay().uplink().delay(Duration::from_millis(25));
    let output = ping(lab, &["-c5", "-i0.2"])?.success()?.text();
    println!("2 x (50 ms + 25 ms) is:\n{output}");
    let times =
        output.lines().filter_map(|line| line.split_once("time=")?.1.split_once(' ')?.0.parse::<f64>().ok());
    let times: Vec<_> = times.collect();
    assert!(times.len() == 5 && times.iter().all(|time| *time >= 150.0), "{output}");
    Ok(())
}

fn full_loss_lets_nothing_through(lab: &Lab) -> Result<()> {
    assert!(ping_passes(lab)?);
    let before = lab.relay().uplink().traffic();
    lab.laptop().uplink().lose(1.0);
    assert!(!ping_passes(lab)?);
    assert_eq!(lab.relay().uplink().traffic(), before, "nothing gets as far as the relay");
    lab.laptop().uplink().lose(0.0);
    assert!(ping_passes(lab)?);
    Ok(())
}

fn cut_lets_nothing_through_until_it_is_healed(lab: &Lab) -> Result<()> {
    let (near, far) = tcp(lab)?;
    passes(&near, &far, "before")?;
    let (udp, other) = sockets(lab)?;
    lab.laptop().uplink().cut();
    assert!(!ping_passes(lab)?);
    udp.send_to(b"lost", address_of(&other, lab.relay())?)?;
    assert!(is_silent(&other)?);
    lab.laptop().uplink().heal();
    arrives(&udp, &other, address_of(&other, lab.relay())?, "after")?;
    passes(&near, &far, "and TCP")
}

fn cut_from_one_host_leaves_the_others(lab: &Lab) -> Result<()> {
    let (udp, other, third) = (udp_on(lab.laptop())?, udp_on(lab.relay())?, udp_on(lab.job())?);
    let (laptop, relay) = (address_of(&udp, lab.laptop())?, address_of(&other, lab.relay())?);
    let job = address_of(&third, lab.job())?;
    lab.relay().uplink().cut_from([lab.laptop().uplink()]);
    udp.send_to(b"lost", relay)?;
    assert!(is_silent(&other)?);
    other.send_to(b"lost", laptop)?;
    assert!(is_silent(&udp)?);
    arrives(&third, &other, relay, "to the one that is cut off")?;
    arrives(&other, &third, job, "from it")?;
    arrives(&third, &udp, laptop, "and past it")?;
    lab.relay().uplink().heal();
    arrives(&udp, &other, relay, "after")?;
    arrives(&other, &udp, laptop, "and back")?;
    Ok(())
}

fn what_is_on_its_way_when_it_is_cut_is_lost(lab: &Lab) -> Result<()> {
    let (udp, other) = sockets(lab)?;
    let delay = Duration::from_millis(300);
    lab.laptop().uplink().delay(delay);
    udp.send_to(b"under way", address_of(&other, lab.relay())?)?;
    lab.laptop().uplink().cut();
    assert!(is_silent(&other)?);
    lab.laptop().uplink().heal();
    assert!(is_silent(&other)?);
    arrives(&udp, &other, address_of(&other, lab.relay())?, "after")?;
    Ok(())
}

fn dropped_udp_is_silent_and_tcp_passes(lab: &Lab) -> Result<()> {
    let (udp, other) = sockets(lab)?;
    // Refusals are only shown to sockets that have one peer.
    udp.connect(address_of(&other, lab.relay())?)?;
    lab.laptop().uplink().drop_udp();
    udp.send(b"lost")?;
    assert!(is_silent(&other)? && is_silent(&udp)?);
    let (near, far) = tcp(lab)?;
    passes(&near, &far, "TCP")?;
    lab.laptop().uplink().allow_udp();
    arrives(&udp, &other, address_of(&other, lab.relay())?, "UDP")?;
    Ok(())
}

fn rejected_udp_is_refused_and_tcp_passes(lab: &Lab) -> Result<()> {
    let (udp, other) = sockets(lab)?;
    udp.connect(address_of(&other, lab.relay())?)?;
    let refused = || -> Result<ErrorKind> {
        udp.send(b"lost")?;
        Ok(udp.recv(&mut [0; 10]).expect_err("nobody answers").kind())
    };
    lab.laptop().uplink().reject_udp();
    assert_eq!(refused()?, ErrorKind::ConnectionRefused);
    lab.laptop().uplink().prohibit_udp();
    assert_eq!(refused()?, ErrorKind::HostUnreachable);
    // The other side of the internet may refuse as well.
    lab.laptop().uplink().allow_udp();
    lab.relay().uplink().reject_udp();
    assert_eq!(refused()?, ErrorKind::ConnectionRefused);
    let (near, far) = tcp(lab)?;
    passes(&near, &far, "TCP")?;
    assert!(is_silent(&other)?);
    Ok(())
}

fn packets_beyond_the_mtu_are_reported(lab: &Lab) -> Result<()> {
    lab.relay().uplink().mtu(1280);
    // 28 bytes of headers.
    ping(lab, &["-c1", "-W1", "-Mdo", "-s1252"])?.success()?;
    let output = ping(lab, &["-c1", "-W1", "-Mdo", "-s1253"])?;
    assert!(!output.status.success() && output.text().contains("mtu = 1280"), "{}", output.text());
    let (near, far) = tcp(lab)?;
    passes(&near, &far, &"TCP learns it ".repeat(1000))
}

fn packets_beyond_the_mtu_can_disappear(lab: &Lab) -> Result<()> {
    lab.relay().uplink().mtu_in_silence(1280);
    ping(lab, &["-c1", "-W1", "-Mdo", "-s1252"])?.success()?;
    let output = ping(lab, &["-c1", "-W1", "-Mdo", "-s1253"])?;
    assert!(
        !output.status.success() && output.text().contains("0 received, 100% packet loss"),
        "{}",
        output.text()
    );
    Ok(())
}

fn rate_bounds_what_passes(lab: &Lab) -> Result<()> {
    let (udp, other) = sockets(lab)?;
    let address = address_of(&other, lab.relay())?;
    // A packet of 1028 bytes takes 0.8 seconds; besides it, two may wait.
    lab.laptop().uplink().slow(10_280, 2_056);
    let start = std::time::Instant::now();
    for number in 0..10_u8 {
        udp.send_to(&[number; 1000], address)?;
    }
    let mut buffer = [0; 2000];
    for number in 0..3 {
        let (len, _) = other.recv_from(&mut buffer)?;
        assert_eq!((len, buffer[0]), (1000, number));
        assert!(start.elapsed() >= Duration::from_millis(800) * u32::from(number + 1));
    }
    // A fourth would take 0.8 seconds more.
    other.set_read_timeout(Some(Duration::from_secs(1)))?;
    assert!(other.recv_from(&mut buffer).is_err(), "the queue was full");
    Ok(())
}

fn overtaken_packets_arrive_out_of_order(lab: &Lab) -> Result<()> {
    let (udp, other) = sockets(lab)?;
    let address = address_of(&other, lab.relay())?;
    let round = || -> Result<Vec<u8>> {
        for number in 0..100 {
            udp.send_to(&[number], address)?;
        }
        let mut buffer = [0];
        (0..100).map(|_| Ok(other.recv_from(&mut buffer).map(|_| buffer[0])?)).collect()
    };
    lab.laptop().uplink().jitter(Duration::from_millis(20));
    assert!(round()?.is_sorted(), "jitter alone keeps the order");
    lab.laptop().uplink().jitter(Duration::ZERO).reorder(0.3);
    let mut numbers = round()?;
    assert!(!numbers.is_sorted());
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "nothing is lost or doubled");
    Ok(())
}
