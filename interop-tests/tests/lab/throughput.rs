//! The lab is faster than what is tested in it.

use super::traffic::tcp;
use anyhow::Result;
use converge_interop_tests::Lab;
use std::{
    io::{Read, Write},
    time::Instant,
};

in_a_lab! { job Direct, laptop Direct: quarter_of_a_gibibyte_passes_whole_and_nothing_is_lost }

const MIB: usize = 1024 * 1024;
const TRANSFER_MIB: usize = 256;

fn quarter_of_a_gibibyte_passes_whole_and_nothing_is_lost(lab: &Lab) -> Result<()> {
    let (mut near, mut far) = tcp(lab)?;
    let start = Instant::now();
    let mut received = 0;
    std::thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(move || -> Result<()> {
            let block = vec![7; MIB];
            for _ in 0..TRANSFER_MIB {
                near.write_all(&block)?;
            }
            Ok(())
        });
        let mut block = vec![0; MIB];
        loop {
            match far.read(&mut block)? {
                0 => break,
                len => received += len,
            }
        }
        sender.join().expect("the sender does not panic")
    })?;
    assert_eq!(received, TRANSFER_MIB * MIB);
    let seconds = start.elapsed().as_secs_f64();
    let mib = u32::try_from(TRANSFER_MIB)?;
    println!("{TRANSFER_MIB} MiB in {seconds:.2} s: {:.0} MiB/s", f64::from(mib) / seconds);
    let traffic = (lab.laptop().uplink().traffic(), lab.relay().uplink().traffic());
    assert_eq!((traffic.0.lost_packets, traffic.1.lost_packets), (0, 0), "{traffic:?}");
    Ok(())
}
