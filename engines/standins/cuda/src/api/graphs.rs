//! Graphs.

use std::ffi::{c_char, c_uint};

use crate::api::give;
use crate::codes::{CAPTURE_UNSUPPORTED, Code, Outcome};
use crate::driver::{Driver, call, query};
use crate::foreign::Out;
use crate::graph::Graph;
use crate::stream;
use crate::work::Work;

fn instantiate(driver: &Driver, handle: Out<u64>, graph: u64) -> Outcome {
    handle.required()?;
    let nodes = driver.graphs.get(graph)?.nodes.clone();
    let new = driver.new_handle();
    driver.execs.insert(new, Graph { nodes });
    driver.counters.live_graphs.change(1);
    handle.set(new)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithFlags(exec: Out<u64>, graph: u64, _flags: u64) -> Code {
    call(|driver| instantiate(driver, exec, graph))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiate_v2(
    exec: Out<u64>,
    graph: u64,
    node: Out<u64>,
    log: Out<c_char>,
    room: usize,
) -> Code {
    node.offer(0);
    if room > 0 && !log.0.is_null() {
        let _: Outcome = log.text("", room);
    }
    cuGraphInstantiateWithFlags(exec, graph, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphInstantiateWithParams(exec: Out<u64>, graph: u64, _params: Out<u64>) -> Code {
    cuGraphInstantiateWithFlags(exec, graph, 0)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: u64, stream: u64) -> Code {
    call(|driver| {
        let (graph, stream) = (driver.execs.get(exec)?, stream::find(driver, stream)?);
        if let Some(capture) = stream.capture() {
            capture.invalidate();
            return Err(CAPTURE_UNSUPPORTED);
        }
        driver.counters.graph_launches.change(1);
        let work = if driver.next_launch_fails() {
            Work::Fail(driver.setting(|settings| settings.lost_code))
        } else {
            Work::Graph(graph.nodes.clone())
        };
        give(driver, &stream, work).map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(exec: u64, stream: u64) -> Code {
    call(|driver| {
        driver.execs.get(exec)?;
        stream::find(driver, stream).map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: u64) -> Code {
    query(|driver| {
        driver.execs.remove(exec)?;
        driver.counters.live_graphs.change(-1);
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: u64) -> Code {
    query(|driver| {
        driver.graphs.remove(graph)?;
        driver.counters.live_graphs.change(-1);
        driver.lost()
    })
}

/// How many nodes there are; their handles are not there.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphGetNodes(graph: u64, _nodes: Out<u64>, count: Out<usize>) -> Code {
    query(|driver| count.set(driver.graphs.get(graph)?.nodes.len()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphCreate(graph: Out<u64>, _flags: c_uint) -> Code {
    call(|driver| {
        graph.required()?;
        let new = driver.new_handle();
        driver.graphs.insert(new, Graph { nodes: std::sync::Arc::default() });
        driver.counters.live_graphs.change(1);
        graph.set(new)
    })
}
