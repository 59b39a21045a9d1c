//! What the system knows of this process: memory, processor time, descriptors.

use metrics::Recorder;
use metrics_process::Collector;

/// Reads it when somebody asks.
#[derive(Debug, Default)]
pub(super) struct Process(Collector);

impl Process {
    /// Says what each is.
    pub(super) fn describe(&self, recorder: &(dyn Recorder + Send + Sync)) {
        metrics::with_local_recorder(recorder, || self.0.describe());
    }

    /// Looks again.
    pub(super) fn collect(&self, recorder: &(dyn Recorder + Send + Sync)) {
        metrics::with_local_recorder(recorder, || self.0.collect());
    }
}
