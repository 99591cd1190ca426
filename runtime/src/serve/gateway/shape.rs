//! The shapes of the API's messages: the names, numbers and types of their fields, read from the descriptor of the
//! `.proto` files.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prost::Message as _;
use quoin_core::api::Method;
use quoin_core::proto::DESCRIPTOR;

/// The messages and enums of the API.
pub(crate) struct Shapes {
    messages: Vec<MessageShape>,
    enums: Vec<EnumShape>,
    /// By [`Method`]: the messages of its request and of its response.
    methods: Vec<Option<(usize, usize)>>,
}

/// A message.
#[derive(Debug, Default)]
pub(crate) struct MessageShape {
    pub(crate) fields: Vec<FieldShape>,
    /// The indices of its fields by their names: in `lowerCamelCase`, and those of the `.proto` files.
    pub(crate) by_name: BTreeMap<String, usize>,
    /// The full names of its oneofs.
    pub(crate) oneofs: Vec<String>,
}

/// A field of a message.
#[derive(Debug)]
pub(crate) struct FieldShape {
    pub(crate) number: u32,
    /// Its name in the `.proto` file, by which it is written.
    pub(crate) name: String,
    /// Its name in `lowerCamelCase`, by which errors call it.
    pub(crate) json_name: String,
    pub(crate) kind: FieldKind,
    pub(crate) is_repeated: bool,
    /// The index of its oneof.
    pub(crate) oneof: Option<usize>,
}

/// The fields and the oneofs of a message that were read.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) fields: Bits,
    pub(super) oneofs: Bits,
}

/// A set of numbers below 64.
#[derive(Default)]
pub(super) struct Bits(u64);

impl Bits {
    /// False if it was there.
    pub(super) fn insert(&mut self, bit: usize) -> bool {
        let before = self.0;
        self.0 |= 1 << bit;
        self.0 != before
    }
}

/// The type of a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FieldKind {
    Bool,
    Bytes,
    /// An enum, with its index.
    Enum(usize),
    Int32,
    Int64,
    /// A message, with its index.
    Message(usize),
    Text,
    Uint32,
    Uint64,
}

impl FieldKind {
    /// Its name in errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Bytes => "bytes",
            Self::Enum(_) => "enum",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::Message(_) => "message",
            Self::Text => "string",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
        }
    }
}

/// The names of an enum's values.
#[derive(Debug, Default)]
pub(crate) struct EnumShape {
    pub(crate) names: BTreeMap<i32, String>,
    pub(crate) numbers: BTreeMap<String, i32>,
}

impl Shapes {
    /// The shapes, which are read on first use.
    pub(crate) fn get() -> &'static Self {
        static SHAPES: OnceLock<Shapes> = OnceLock::new();
        SHAPES.get_or_init(|| Self::read(DESCRIPTOR))
    }

    /// The indices of a method's messages: request, response.
    pub(crate) fn of(&self, method: Method) -> (usize, usize) {
        self.methods[method as usize].expect("the descriptor has all methods")
    }

    pub(crate) fn message(&self, index: usize) -> &MessageShape {
        &self.messages[index]
    }

    pub(crate) fn enumeration(&self, index: usize) -> &EnumShape {
        &self.enums[index]
    }

    fn read(descriptor: &[u8]) -> Self {
        let set = FileSet::decode(descriptor).expect("the descriptor is compiled with the program");
        let mut found = Found::default();
        for file in &set.files {
            let package = format!(".{}", file.package);
            found.enums(&package, &file.enums);
            found.messages(&package, &file.messages);
        }
        let messages = found.messages.iter().map(|(name, message)| found.shape(name, message));
        let methods = Method::ALL.iter().map(|method| found.method(*method, &set.files));
        Self {
            messages: messages.collect(),
            methods: methods.collect(),
            enums: found.enums.iter().map(|declared| EnumShape::of(declared)).collect(),
        }
    }
}

impl EnumShape {
    fn of(declared: &Enumeration) -> Self {
        let mut shape = Self::default();
        for value in &declared.values {
            shape.names.entry(value.number).or_insert_with(|| value.name.clone());
            shape.numbers.insert(value.name.clone(), value.number);
        }
        shape
    }
}

/// The declarations of all files, numbered, and their numbers by full name, which begins with a point.
#[derive(Default)]
struct Found<'a> {
    messages: Vec<(String, &'a Declared)>,
    enums: Vec<&'a Enumeration>,
    message_of: BTreeMap<String, usize>,
    enum_of: BTreeMap<String, usize>,
}

impl<'a> Found<'a> {
    fn enums(&mut self, scope: &str, declared: &'a [Enumeration]) {
        for one in declared {
            self.enum_of.insert(format!("{scope}.{}", one.name), self.enums.len());
            self.enums.push(one);
        }
    }

    fn messages(&mut self, scope: &str, declared: &'a [Declared]) {
        for one in declared {
            let name = format!("{scope}.{}", one.name);
            self.enums(&name, &one.enums);
            self.messages(&name, &one.nested);
            self.message_of.insert(name.clone(), self.messages.len());
            self.messages.push((name, one));
        }
    }

    fn method(&self, method: Method, files: &[ApiFile]) -> Option<(usize, usize)> {
        let (service_name, method_name, _) = method.parts();
        let (package, service_name) = service_name.rsplit_once('.')?;
        let mut services = files
            .iter()
            .filter(|file| file.package == package)
            .flat_map(|file| &file.services);
        let service = services.find(|service| service.name == service_name)?;
        let declared = service.methods.iter().find(|one| one.name == method_name)?;
        let message = |name| self.message_of.get(name).copied();
        Some((message(&declared.input)?, message(&declared.output)?))
    }

    fn shape(&self, name: &str, message: &Declared) -> MessageShape {
        let mut shape = MessageShape::default();
        let scope = name.trim_start_matches('.');
        shape.oneofs = message
            .oneofs
            .iter()
            .map(|one| format!("{scope}.{}", one.name))
            .collect();
        for (at, field) in message.fields.iter().enumerate() {
            shape.by_name.entry(field.name.clone()).or_insert(at);
            shape.fields.push(FieldShape {
                number: field.number,
                name: field.name.clone(),
                json_name: field.json_name.clone(),
                kind: self.kind(field),
                is_repeated: field.label == LABEL_REPEATED,
                oneof: field.oneof.and_then(|index| usize::try_from(index).ok()),
            });
        }
        // A name in camel case comes before an equal one of another field.
        for (at, field) in message.fields.iter().enumerate() {
            shape.by_name.insert(field.json_name.clone(), at);
        }
        shape
    }

    fn kind(&self, field: &DeclaredField) -> FieldKind {
        match field.kind {
            3 => FieldKind::Int64,
            4 => FieldKind::Uint64,
            5 => FieldKind::Int32,
            8 => FieldKind::Bool,
            9 => FieldKind::Text,
            11 => FieldKind::Message(self.message_of[&field.type_name]),
            12 => FieldKind::Bytes,
            13 => FieldKind::Uint32,
            14 => FieldKind::Enum(self.enum_of[&field.type_name]),
            other => unreachable!("field {} of the API has a type of number {other}", field.name),
        }
    }
}

/// `LABEL_REPEATED` of a field.
const LABEL_REPEATED: i32 = 3;

// The parts of `google.protobuf.FileDescriptorSet` that are needed.

#[derive(Clone, PartialEq, prost::Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<ApiFile>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ApiFile {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Declared>,
    #[prost(message, repeated, tag = "5")]
    enums: Vec<Enumeration>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Declared {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    fields: Vec<DeclaredField>,
    #[prost(message, repeated, tag = "3")]
    nested: Vec<Self>,
    #[prost(message, repeated, tag = "4")]
    enums: Vec<Enumeration>,
    #[prost(message, repeated, tag = "8")]
    oneofs: Vec<Named>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeclaredField {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "3")]
    number: u32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "6")]
    type_name: String,
    #[prost(int32, optional, tag = "9")]
    oneof: Option<i32>,
    #[prost(string, tag = "10")]
    json_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Enumeration {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    values: Vec<EnumValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EnumValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<ServiceMethod>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ServiceMethod {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input: String,
    #[prost(string, tag = "3")]
    output: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A message and all messages within it.
    fn reach(shapes: &Shapes, index: usize, reached: &mut BTreeSet<usize>) {
        if !reached.insert(index) {
            return;
        }
        for field in &shapes.messages[index].fields {
            if let FieldKind::Message(inner) = field.kind {
                reach(shapes, inner, reached);
            }
        }
    }

    #[test]
    fn fields_of_the_api_are_in_the_order_of_their_numbers() {
        let shapes = Shapes::get();
        let mut reached = BTreeSet::new();
        for method in Method::ALL {
            let (request, response) = shapes.of(*method);
            reach(shapes, request, &mut reached);
            reach(shapes, response, &mut reached);
        }
        assert!(reached.len() > 80);
        // Encoders write fields in the order of their numbers, and JSON has them in the order of declaration.
        for message in reached.iter().map(|index| &shapes.messages[*index]) {
            assert!(message.fields.is_sorted_by_key(|field| field.number), "{message:?}");
            assert!(message.fields.len() <= 64, "the reader has a bit for each field");
        }
    }

    #[test]
    fn a_field_is_found_by_both_of_its_names() {
        let shapes = Shapes::get();
        let (request, response) = shapes.of(Method::Range);
        let range = shapes.message(request);
        let by_name = |name: &str| range.by_name.get(name).map(|at| range.fields[*at].number);
        assert_eq!((by_name("range_end"), by_name("rangeEnd")), (Some(2), Some(2)));
        assert_eq!(by_name("RangeEnd"), None);
        let kvs = &shapes.message(response).fields[1];
        assert_eq!((kvs.name.as_str(), kvs.is_repeated), ("kvs", true));
        let order = &range.fields[range.by_name["sortOrder"]];
        let FieldKind::Enum(index) = order.kind else {
            panic!("{order:?}")
        };
        assert_eq!(shapes.enumeration(index).names[&2], "DESCEND");
        let (txn, _) = shapes.of(Method::Txn);
        let FieldKind::Message(compare) = shapes.message(txn).fields[0].kind else {
            panic!("compares are messages")
        };
        assert_eq!(shapes.message(compare).oneofs, ["etcdserverpb.Compare.target_union"]);
    }
}
