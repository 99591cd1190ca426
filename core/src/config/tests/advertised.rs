//! The advertised URLs of a port that the kernel chose.

use super::super::{Config, Url, join_urls};

fn advertised(listen: &str, advertise: &str, bound: &[(&str, u16)]) -> String {
    let mut config = Config {
        listen_client_urls: Url::parse_list(listen).unwrap(),
        advertise_client_urls: Url::parse_list(advertise).unwrap(),
        ..Config::with_defaults()
    };
    let bound: Vec<(Url, u16)> = bound
        .iter()
        .map(|(url, port)| (Url::parse(url).unwrap(), *port))
        .collect();
    let bound: Vec<(&Url, u16)> = bound.iter().map(|(url, port)| (url, *port)).collect();
    config.advertise_bound(&bound);
    join_urls(&config.advertise_client_urls)
}

#[test]
fn port_0_is_advertised_as_the_port_that_was_bound() {
    let any = "http://127.0.0.1:0";
    for (listen, advertise, bound, expected) in [
        (any, any, vec![(any, 7)], "http://127.0.0.1:7"),
        (any, "http://10.0.0.1:0", vec![(any, 7)], "http://10.0.0.1:7"),
        (any, "http://10.0.0.1:9", vec![(any, 7)], "http://10.0.0.1:9"),
        (
            "http://127.0.0.1:0,http://[::1]:0",
            "http://[::1]:0",
            vec![(any, 7), ("http://[::1]:0", 8)],
            "http://[::1]:8",
        ),
        ("unix:///s", "unix:///s,http://h:0", vec![], "http://h:0,unix:///s"),
    ] {
        assert_eq!(advertised(listen, advertise, &bound), expected);
    }
}
