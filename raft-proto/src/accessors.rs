//! Macros that generate the `get_`/`set_`/`mut_`/`take_`/`has_`/`clear_` methods that the `raft` crate calls.
//!
//! The names follow rust-protobuf's generated code, because that is the API `raft` was written against.

/// Writes accessors for the fields of one message, grouped by kind:
/// `scalar` (copied), `bytes`, `repeated`, `message` (optional in the struct) and `enumeration` (an `i32` in the struct;
/// prost itself writes its `set_`).
macro_rules! accessors {
    ($owner:ident { $($kind:ident $field:ident : $ty:ty => $get:ident $($more:ident)*;)* }) => {
        impl $owner {
            $($crate::accessors::field!($kind $field: $ty => $get $($more)*);)*

            /// A shared empty message, for getters of absent sub-messages.
            #[inline]
            #[must_use]
            pub fn default_ref() -> &'static Self {
                static EMPTY: std::sync::OnceLock<$owner> = std::sync::OnceLock::new();
                EMPTY.get_or_init(Self::default)
            }
        }
    };
}

/// The methods of one field.
macro_rules! field {
    (scalar $field:ident : $ty:ty => $get:ident $set:ident) => {
        #[doc = concat!("The value of `", stringify!($field), "`.")]
        #[inline]
        #[must_use]
        pub fn $get(&self) -> $ty {
            self.$field
        }
        #[doc = concat!("Sets `", stringify!($field), "`.")]
        #[inline]
        pub fn $set(&mut self, value: $ty) {
            self.$field = value;
        }
    };
    (enumeration $field:ident : $ty:ty => $get:ident) => {
        #[doc = concat!("`", stringify!($field), "`, where a number this crate does not know reads as the variant numbered 0.")]
        #[inline]
        #[must_use]
        pub fn $get(&self) -> $ty {
            <$ty>::try_from(self.$field).unwrap_or_default()
        }
    };
    (bytes $field:ident : $ty:ty => $get:ident $set:ident $take:ident) => {
        #[doc = concat!("The bytes of `", stringify!($field), "`.")]
        #[inline]
        #[must_use]
        pub fn $get(&self) -> &[u8] {
            &self.$field
        }
        #[doc = concat!("Sets `", stringify!($field), "`.")]
        #[inline]
        pub fn $set(&mut self, value: $ty) {
            self.$field = value;
        }
        #[doc = concat!("Takes `", stringify!($field), "`, leaving it empty.")]
        #[inline]
        pub fn $take(&mut self) -> $ty {
            std::mem::take(&mut self.$field)
        }
    };
    (repeated $field:ident : $ty:ty => $get:ident $set:ident $take:ident $mut:ident) => {
        #[doc = concat!("The items of `", stringify!($field), "`.")]
        #[inline]
        #[must_use]
        pub fn $get(&self) -> &[$ty] {
            &self.$field
        }
        #[doc = concat!("Sets `", stringify!($field), "`.")]
        #[inline]
        pub fn $set(&mut self, value: Vec<$ty>) {
            self.$field = value;
        }
        #[doc = concat!("Takes `", stringify!($field), "`, leaving it empty.")]
        #[inline]
        pub fn $take(&mut self) -> Vec<$ty> {
            std::mem::take(&mut self.$field)
        }
        #[doc = concat!("`", stringify!($field), "`, to change in place.")]
        #[inline]
        pub fn $mut(&mut self) -> &mut Vec<$ty> {
            &mut self.$field
        }
    };
    (message $field:ident : $ty:ty => $get:ident $set:ident $take:ident $mut:ident $has:ident $clear:ident) => {
        #[doc = concat!("`", stringify!($field), "`; an empty one where it is absent.")]
        #[inline]
        #[must_use]
        pub fn $get(&self) -> &$ty {
            self.$field.as_ref().unwrap_or_else(|| <$ty>::default_ref())
        }
        #[doc = concat!("Sets `", stringify!($field), "`.")]
        #[inline]
        pub fn $set(&mut self, value: $ty) {
            self.$field = Some(value);
        }
        #[doc = concat!("Takes `", stringify!($field), "`, leaving it absent.")]
        #[inline]
        pub fn $take(&mut self) -> $ty {
            self.$field.take().unwrap_or_default()
        }
        #[doc = concat!("`", stringify!($field), "`, to change in place; made if absent.")]
        #[inline]
        pub fn $mut(&mut self) -> &mut $ty {
            self.$field.get_or_insert_default()
        }
        #[doc = concat!("Whether `", stringify!($field), "` is present.")]
        #[inline]
        #[must_use]
        pub fn $has(&self) -> bool {
            self.$field.is_some()
        }
        #[doc = concat!("Makes `", stringify!($field), "` absent.")]
        #[inline]
        pub fn $clear(&mut self) {
            self.$field = None;
        }
    };
}

pub(crate) use {accessors, field};
