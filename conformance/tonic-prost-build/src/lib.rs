//! Replaces the published `tonic-prost-build`, with protox instead of protoc.
//!
//! The published crate's `compile_protos` runs the `protoc` program; the build script of `etcd-client` calls it, and a
//! fresh machine has no such program. The workspace patches this crate in, so that the same call compiles the `.proto`
//! files in process. Messages come from prost-build and services from tonic-build, as in the published crate. It has
//! only what the build scripts of this tree call.

use std::{io, path::Path};

use proc_macro2::TokenStream;
use prost_types::FileDescriptorSet;
use tonic_build::{CodeGenBuilder, Method, Service};

/// What to generate.
#[derive(Debug, Clone)]
pub struct Builder {
    client: bool,
    server: bool,
}

/// Starts with clients and servers both on.
#[must_use]
pub fn configure() -> Builder {
    Builder {
        client: true,
        server: true,
    }
}

impl Builder {
    /// Whether to generate client code.
    #[must_use]
    pub fn build_client(mut self, enable: bool) -> Self {
        self.client = enable;
        self
    }

    /// Whether to generate server code.
    #[must_use]
    pub fn build_server(mut self, enable: bool) -> Self {
        self.server = enable;
        self
    }

    /// Compiles `.proto` files and writes one Rust file per package into `OUT_DIR`.
    ///
    /// # Errors
    /// If a file cannot be read or does not compile, or the output cannot be written.
    pub fn compile_protos(self, protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> io::Result<()> {
        let descriptors = protox::compile(protos, includes).map_err(io::Error::other)?;
        self.compile_fds(descriptors)
    }

    /// The same for files that the caller compiled.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn compile_fds(self, descriptors: FileDescriptorSet) -> io::Result<()> {
        prost_build::Config::new()
            .service_generator(self.service_generator())
            .compile_fds(descriptors)
    }

    /// Only the service half, for a caller that configures prost-build itself.
    #[must_use]
    pub fn service_generator(self) -> Box<dyn prost_build::ServiceGenerator> {
        Box::new(Generator(self))
    }
}

/// Hands services to tonic-build as prost-build finds them.
struct Generator(Builder);

impl prost_build::ServiceGenerator for Generator {
    fn generate(&mut self, service: prost_build::Service, out: &mut String) {
        let service = Described::from(service);
        let mut generator = CodeGenBuilder::new();
        generator.build_transport(false);
        // Generated services are in a separate module beside the messages, hence "super".
        if self.0.client {
            out.push_str(&generator.generate_client(&service, "super").to_string());
        }
        if self.0.server {
            out.push_str(&generator.generate_server(&service, "super").to_string());
        }
    }
}

/// A prost-build service in the form tonic-build asks for.
struct Described {
    service: prost_build::Service,
    methods: Vec<DescribedMethod>,
}

struct DescribedMethod(prost_build::Method);

impl From<prost_build::Service> for Described {
    fn from(mut service: prost_build::Service) -> Self {
        let methods = std::mem::take(&mut service.methods)
            .into_iter()
            .map(DescribedMethod)
            .collect();
        Self { service, methods }
    }
}

impl Service for Described {
    type Comment = String;
    type Method = DescribedMethod;

    fn name(&self) -> &str {
        &self.service.name
    }

    fn package(&self) -> &str {
        &self.service.package
    }

    fn identifier(&self) -> &str {
        &self.service.proto_name
    }

    fn methods(&self) -> &[DescribedMethod] {
        &self.methods
    }

    fn comment(&self) -> &[String] {
        &self.service.comments.leading
    }
}

impl Method for DescribedMethod {
    type Comment = String;

    fn name(&self) -> &str {
        &self.0.name
    }

    fn identifier(&self) -> &str {
        &self.0.proto_name
    }

    fn codec_path(&self) -> &'static str {
        "tonic_prost::ProstCodec"
    }

    fn client_streaming(&self) -> bool {
        self.0.client_streaming
    }

    fn server_streaming(&self) -> bool {
        self.0.server_streaming
    }

    fn comment(&self) -> &[String] {
        &self.0.comments.leading
    }

    fn request_response_name(&self, messages: &str, _well_known: bool) -> (TokenStream, TokenStream) {
        (
            message_path(messages, &self.0.input_type),
            message_path(messages, &self.0.output_type),
        )
    }
}

/// The Rust path of a message that prost-build resolved, seen from the service's module.
fn message_path(messages: &str, rust_type: &str) -> TokenStream {
    format!("{messages}::{rust_type}")
        .parse()
        .expect("prost-build resolves messages to Rust paths")
}
