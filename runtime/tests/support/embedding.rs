//! A server inside a program: Unix sockets, free ports, and what remains when its handle is dropped.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use http::Method;
use quoin_core::config::Url;
use quoin_core::proto::etcdserverpb::{
    MemberListRequest, MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
use quoin_runtime::seam::{Address, Runtime, block_on};
use quoin_runtime::server::{Role, Server, StartError};

use super::World;
use super::client::{Grpc, http, run};
use super::config;

fn put(runtime: &Arc<dyn Runtime>, address: &Address, key: &'static str) {
    let (client, address) = (Arc::clone(runtime), address.clone());
    run(runtime, async move {
        let grpc = Grpc::connect(&client, address, 1 << 20).await;
        let put = PutRequest {
            key: key.into(),
            value: "value".into(),
            ..PutRequest::default()
        };
        let _: PutResponse = grpc.ok("/etcdserverpb.KV/Put", &put).await;
    });
}

pub(crate) fn unix_sockets_serve_like_ports(runtime: Arc<dyn Runtime>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let url = |name: &str| vec![Url::unix(path(name).to_str().unwrap())];
    let mut config = config();
    config.listen_client_urls = [url("client"), config.listen_client_urls].concat();
    config.listen_metrics_urls = [config.listen_metrics_urls, url("metrics")].concat();
    config.listen_peer_urls = url("peer");
    // The socket of a process that has ended is replaced.
    drop(UnixListener::bind(path("client")).unwrap());
    let world = World::start_on(Arc::clone(&runtime), &config, |handle| {
        assert_eq!(handle.endpoint(), format!("unix://{}", path("client").display()));
        let peers: Vec<_> = handle.addresses(Role::Peer).cloned().collect();
        assert_eq!(peers, [Address::Unix(path("peer"))]);
    });
    let (client, tcp) = (Arc::clone(&runtime), world.client);
    let (socket, metrics) = (Address::Unix(path("client")), Address::Unix(path("metrics")));
    put(&runtime, &socket, "key");
    run(&runtime, async move {
        // Both listeners serve one member.
        let grpc = Grpc::connect(&client, tcp, 1 << 20).await;
        let get = RangeRequest {
            key: "key".into(),
            ..RangeRequest::default()
        };
        let found: RangeResponse = grpc.ok("/etcdserverpb.KV/Range", &get).await;
        assert_eq!(found.count, 1);
        for (address, path) in [(&socket, "/version"), (&metrics, "/health"), (&metrics, "/metrics")] {
            let page = http(&client, address.clone(), Method::GET, path, &[]).await;
            assert_eq!(page.status, 200, "{path}");
        }
    });
    let names = ["client", "metrics", "peer"];
    assert!(names.iter().all(|name| path(name).exists()));
    world.stop();
    let left: Vec<_> = names.iter().filter(|name| path(name).exists()).collect();
    assert!(left.is_empty(), "sockets are removed with the server: {left:?}");
}

pub(crate) fn a_start_that_fails_leaves_no_socket(runtime: Arc<dyn Runtime>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    // A file is in the data directory's place.
    let data = folder.path().join("data");
    std::fs::write(&data, "").unwrap();
    let builder = Server::builder(data.to_str().unwrap()).socket(socket.to_str().unwrap());
    let refused = block_on(builder.start(Arc::clone(&runtime))).unwrap_err();
    assert!(matches!(refused, StartError::Boot(_)), "{refused}");
    assert!(!socket.exists());
    // A socket on which a living process listens is not replaced.
    let _living = UnixListener::bind(&socket).unwrap();
    let builder = Server::builder(folder.path().join("other").to_str().unwrap()).socket(socket.to_str().unwrap());
    let refused = block_on(builder.start(runtime)).unwrap_err();
    assert!(matches!(refused, StartError::Listen(_)), "{refused}");
    assert!(socket.exists());
}

pub(crate) fn a_free_port_is_advertised_as_it_was_bound(runtime: Arc<dyn Runtime>) {
    let folder = tempfile::tempdir().unwrap();
    let builder = Server::builder(folder.path().to_str().unwrap()).name("embedded");
    let handle = block_on(builder.start(Arc::clone(&runtime))).unwrap();
    let (endpoint, address) = (
        handle.endpoint(),
        handle.addresses(Role::Client).next().unwrap().clone(),
    );
    assert!(!endpoint.ends_with(":0"), "{endpoint}");
    let client = Arc::clone(&runtime);
    run(&runtime, async move {
        let grpc = Grpc::connect(&client, address, 1 << 20).await;
        let list = MemberListRequest { linearizable: true };
        let list: MemberListResponse = grpc.ok("/etcdserverpb.Cluster/MemberList", &list).await;
        let members: Vec<_> = list
            .members
            .iter()
            .map(|member| (&*member.name, &member.client_urls[..]))
            .collect();
        assert_eq!(members, [("embedded", &[endpoint][..])]);
    });
    block_on(handle.stop());
}

pub(crate) fn dropping_a_handle_ends_its_member(runtime: Arc<dyn Runtime>) {
    let folder = tempfile::tempdir().unwrap();
    let (data, socket) = (folder.path().join("data"), folder.path().join("s"));
    for round in 0..3 {
        let builder = Server::builder(data.to_str().unwrap()).socket(socket.to_str().unwrap());
        let handle = block_on(builder.start(Arc::clone(&runtime))).unwrap();
        let address = handle.addresses(Role::Client).next().unwrap().clone();
        put(&runtime, &address, "key");
        let client = Arc::clone(&runtime);
        run(&runtime, async move {
            let grpc = Grpc::connect(&client, address, 1 << 20).await;
            let get = RangeRequest {
                key: "key".into(),
                ..RangeRequest::default()
            };
            let found: RangeResponse = grpc.ok("/etcdserverpb.KV/Range", &get).await;
            assert_eq!(found.kvs[0].version, round + 1, "acknowledged writes are kept");
        });
        let ended = handle.ended();
        drop(handle);
        block_on(ended);
        assert!(!socket.exists());
    }
}
