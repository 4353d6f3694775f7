//! Makes a pipeline.

use std::sync::Arc;

use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::core::Core;
use crate::failure::{Failure, FailureClass, StartError};
use crate::outlet::{Outlet, SourceInfo};
use crate::spec::Spec;

/// What happens to frames that nobody has taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// A newer one replaces them.
    NewestWins,
    /// The source waits.
    Lossless,
}

pub(crate) fn build(
    spec: &Spec,
    name: &str,
    delivery: Delivery,
    outlet: Arc<dyn Outlet>,
) -> Result<Core, StartError> {
    let _ = (spec, name, delivery, outlet);
    Err(StartError::Failed(Failure::new(FailureClass::Other, "not here yet")))
}

pub(crate) fn describe(sink: &gst_app::AppSink, sample: &gst::Sample) -> SourceInfo {
    let _ = (sink, sample);
    SourceInfo::default()
}
