//! What children bring home from other namespaces, as Python gets it: a dict for each record, keyed as its dataclass.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::target::PyTarget;
use super::{IdRow, os_error};
use crate::inspect::{cgroup as groups, ipc as objects, network as links, peers, uts};

/// `record!(py; name: value, …)`: a dict.
macro_rules! record {
    ($py:expr; $($name:ident: $value:expr),* $(,)?) => {{
        let record = PyDict::new($py);
        $(record.set_item(stringify!($name), $value)?;)*
        Ok::<_, PyErr>(record)
    }};
}

type Record<'py> = Bound<'py, PyDict>;

/// Bytes of the kernel, as `os.fsdecode` has them.
fn text(bytes: Vec<u8>) -> OsString {
    OsString::from_vec(bytes)
}

/// A number, `(type, device, inode, id)` and a pid.
type PeerRow = (i32, IdRow, Option<i32>);
/// Links, routes, peers.
type NetworkRows<'py> = (Vec<Record<'py>>, Vec<Record<'py>>, Vec<PeerRow>);

/// `(links, routes, peers)` of an open network namespace: dicts, and by number `(type, device, inode, id)` and a pid.
#[pyfunction]
pub fn network(py: Python<'_>, namespace: RawFd) -> PyResult<NetworkRows<'_>> {
    let read = || {
        let links::Network { links, routes, socket } = links::network(namespace)?;
        let wanted: Vec<i32> = links.iter().filter_map(|link| link.peer_netnsid).collect();
        Ok((links, routes, peers::peers(socket, &wanted)))
    };
    let (links, routes, peers) = py.detach(read).map_err(os_error)?;
    let links = links.into_iter().map(|link| link_record(py, link)).collect::<PyResult<_>>()?;
    let routes = routes.into_iter().map(|route| route_record(py, route)).collect::<PyResult<_>>()?;
    let peer = |peer: peers::Peer| {
        let id = peer.namespace;
        (peer.netnsid, ("net", id.device, id.inode, id.id), peer.pid)
    };
    Ok((links, routes, peers.into_iter().map(peer).collect()))
}

fn link_record(py: Python<'_>, link: links::Link) -> PyResult<Record<'_>> {
    let addresses = link.addresses.into_iter().map(|address| {
        record!(py; family: address.family, local: address.local, prefixlen: address.prefixlen, scope: address.scope)
    });
    record!(py;
        index: link.index,
        name: text(link.name),
        kind: link.kind,
        type: link.kind_of_address,
        flags: link.flags,
        operstate: link.operstate,
        mtu: link.mtu,
        mac: link.mac,
        peer: link.peer,
        peer_netnsid: link.peer_netnsid,
        master: link.master,
        addresses: addresses.collect::<PyResult<Vec<_>>>()?,
        received_bytes: link.received,
        sent_bytes: link.sent,
    )
}

fn route_record(py: Python<'_>, route: links::Route) -> PyResult<Record<'_>> {
    let hops = route.hops.into_iter().map(|hop| (hop.gateway, hop.device.map(text), hop.weight));
    record!(py;
        family: route.family,
        type: route.kind,
        destination: route.destination,
        hops: hops.collect::<Vec<_>>(),
        source: route.source,
        metric: route.metric,
        table: route.table,
        protocol: route.protocol,
        scope: route.scope,
    )
}

/// A System V object: id, key, uid, gid, mode, and the numbers of its type.
type ObjectRow = (u32, u32, u32, u32, u32, Vec<u64>);
/// A POSIX queue: name, uid, gid, mode, bytes.
type QueueRow = (OsString, u32, u32, u32, Option<u64>);
/// An errno in place of what cannot be read.
type Rows<T> = (Vec<T>, Option<i32>);
/// Message queues, semaphore sets, shared memory, POSIX queues.
type IpcRows = (Rows<ObjectRow>, Rows<ObjectRow>, Rows<ObjectRow>, Rows<QueueRow>);

/// The message queues, semaphore sets, shared memory and POSIX queues of an open IPC namespace: each a list, and the
/// errno if it could not be read.
#[pyfunction]
pub fn ipc(py: Python<'_>, namespace: RawFd) -> PyResult<IpcRows> {
    let found = py.detach(|| objects::objects(namespace)).map_err(os_error)?;
    let object = |o: objects::Object| (o.id, o.key, o.uid, o.gid, o.mode, o.numbers);
    let queue = |q: objects::Queue| (text(q.name), q.uid, q.gid, q.mode, q.bytes);
    let [messages, semaphores, memory] =
        [found.message_queues, found.semaphore_sets, found.shared_memory].map(|table| rows(table, object));
    Ok((messages, semaphores, memory, rows(found.posix_queues, queue)))
}

fn rows<T, R>(found: Result<Vec<T>, Errno>, row: impl Fn(T) -> R) -> Rows<R> {
    match found {
        Ok(found) => (found.into_iter().map(row).collect(), None),
        Err(errno) => (Vec::new(), Some(errno as i32)),
    }
}

/// Hierarchy, controllers, outside, inside.
type PathRow = (u32, Vec<String>, OsString, Option<OsString>);

/// `(hierarchy, controllers, outside, inside)` of each of a process's control groups, and why the insides are None.
#[pyfunction]
pub fn cgroup(py: Python<'_>, target: &Bound<'_, PyTarget>) -> PyResult<Rows<PathRow>> {
    let target = target.get().open()?;
    let (paths, refused) = py.detach(|| groups::paths(&target)).map_err(os_error)?;
    let path = |path: groups::Path| (path.hierarchy, path.controllers, text(path.outside), path.inside.map(text));
    Ok((paths.into_iter().map(path).collect(), refused.map(|errno: Errno| errno as i32)))
}

/// The host name and the NIS domain name of an open UTS namespace.
#[pyfunction]
pub fn hostname(py: Python<'_>, namespace: RawFd) -> PyResult<(OsString, OsString)> {
    let [node, domain] = py.detach(|| uts::names(namespace)).map_err(os_error)?;
    Ok((text(node), text(domain)))
}
