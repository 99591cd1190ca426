//! Downgrades of a cluster of version 3.5.

use std::time::Duration;

use etcd_client::{DowngradeOptions, DowngradeResponse, Error};

use super::tale::Tale;

/// The cluster version is set once there is a leader, and until then no version is valid.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// The checks of a target, and a downgrade that begins and is cancelled.
pub(crate) async fn downgrades(tale: &mut Tale) {
    let version_is_set = async {
        while validate(tale, "3.4").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(VERSION_LIMIT, version_is_set)
        .await
        .expect("the cluster gets its version");
    for version in [
        "3.4",
        "3.4.0",
        "3.4.99",
        "3.4.0-rc.1",
        "3.4.0+x",
        "3.5",
        "3.3.0",
        "2.4",
        "4.4",
        "0.0.0",
        "",
        "3",
        "v3.4",
        "3.4.0.0",
        "3.x",
        "-3.4.0",
        "+3.4.0",
        "3.4.0-rc_1",
        "3.4.0 ",
        "3.99999999999999999999",
        "03.04.00",
    ] {
        let answer = validate(tale, version).await;
        tale.tell(&format!("validate {version:?}"), answer);
    }
    tell(tale, "cancel none", DowngradeOptions::Cancel).await;
    tell(tale, "enable 3.3", DowngradeOptions::Enable("3.3".to_owned())).await;
    tell(tale, "enable nonsense", DowngradeOptions::Enable("nonsense".to_owned())).await;
    effect(tale, "enable 3.4", DowngradeOptions::Enable("3.4".to_owned())).await;
    tell(tale, "enable 3.4 again", DowngradeOptions::Enable("3.4".to_owned())).await;
    tell(tale, "validate 3.4", DowngradeOptions::Validate("3.4".to_owned())).await;
    tell(tale, "validate 3.3", DowngradeOptions::Validate("3.3".to_owned())).await;
    let put = tale.client().put("a", "x", None).await;
    tale.tell("put", put);
    effect(tale, "cancel", DowngradeOptions::Cancel).await;
    tell(tale, "cancel again", DowngradeOptions::Cancel).await;
    tell(tale, "validate 3.4", DowngradeOptions::Validate("3.4".to_owned())).await;
}

async fn validate(tale: &Tale, version: &str) -> Result<DowngradeResponse, Error> {
    let options = DowngradeOptions::Validate(version.to_owned());
    tale.client().maintenance_client().downgrade(options).await
}

async fn tell(tale: &mut Tale, asked: &str, options: DowngradeOptions) {
    let answer = tale.client().maintenance_client().downgrade(options).await;
    tale.tell(asked, answer);
}

/// A request whose answer is not compared: etcd 3.5 carries it out, and then answers that it timed out.
async fn effect(tale: &mut Tale, asked: &str, options: DowngradeOptions) {
    let _answer = tale.client().maintenance_client().downgrade(options).await;
    tale.line(asked);
}
