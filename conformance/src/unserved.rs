//! Methods that a server does not implement: every method of etcd's API is called once, and so is the JSON gateway.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use quoin_core::proto::DESCRIPTOR;

use crate::diff::wire::Wire;
use crate::trouble::During as _;
use crate::{Kind, Launch, Server, Trouble};

/// gRPC's UNIMPLEMENTED.
const UNIMPLEMENTED: i32 = 12;
/// A method that does not answer within this time is waiting, so it is implemented.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// A path of the JSON gateway that every etcd with a gateway serves, and a request for it.
const GATEWAY: &str = "/v3/kv/range";
const ANY_KEY: &str = r#"{"key": "YQ=="}"#;

/// The methods that each of these servers does not implement.
///
/// # Errors
/// If a server cannot be started or connected to.
pub fn of(servers: &[Kind]) -> Result<Vec<(Kind, Vec<String>)>, Trouble> {
    let methods = methods()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .during("a runtime for the client")?;
    let one = |kind: &Kind| {
        let server = Launch::of(*kind)?.start()?;
        let mut unserved = Vec::new();
        if !has_gateway(&server)? {
            unserved.push("JSON gateway (/v3/*)".to_owned());
        }
        for (service, method) in &methods {
            let path = format!("/{service}/{method}");
            if !runtime.block_on(is_served(server.address(), &path))? {
                let service = service.rsplit('.').next().unwrap_or(service);
                unserved.push(format!("{service}.{method}"));
            }
        }
        Ok((*kind, unserved))
    };
    servers.iter().map(one).collect()
}

/// Every method of the API: the full name of its service, and the name of the method.
fn methods() -> Result<Vec<(String, String)>, Trouble> {
    let files = FileDescriptorSet::decode(DESCRIPTOR).during("reading the API's description")?;
    let of_file = |file: &FileDescriptorProto| -> Vec<(String, String)> {
        let mut methods = Vec::new();
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            methods.extend(
                service
                    .method
                    .iter()
                    .map(|method| (name.clone(), method.name().to_owned())),
            );
        }
        methods
    };
    Ok(files.file.iter().flat_map(of_file).collect())
}

/// Sends an empty message on a separate connection. A method may carry it out: the server is used for nothing else.
async fn is_served(address: SocketAddr, path: &str) -> Result<bool, Trouble> {
    let wire = Wire::connect(address).await?;
    let answer = async { wire.call(path, &(), true).await?.only().await };
    // No answer in time: the method waits.
    let Ok(answer) = tokio::time::timeout(ANSWER_LIMIT, answer).await else {
        return Ok(true);
    };
    Ok(answer.is_ok() || answer.is_err_and(|refusal| refusal.code != UNIMPLEMENTED))
}

fn has_gateway(server: &Server) -> Result<bool, Trouble> {
    let answer = server.post(GATEWAY, ANY_KEY).during("asking the JSON gateway")?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    Ok(!matches!(status, "404" | "501"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_etcd_serves_all_but_streamed_ranges_and_ours_serves_puts_and_watches() {
        let unserved = of(&[Kind::Etcd, Kind::QuoinTokio]).expect("servers that can be reached");
        assert_eq!(unserved[0].1, ["KV.RangeStream"], "a real etcd 3.5");
        let ours = &unserved[1].1;
        for served in ["KV.Put", "Watch.", "Lock.", "Election.", "Maintenance."] {
            assert!(!ours.iter().any(|method| method.starts_with(served)), "{ours:?}");
        }
    }
}
