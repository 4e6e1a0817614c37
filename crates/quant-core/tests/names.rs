//! Every choice by its name: there and back.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use quant_core::{ActivationRule, Dialect, FloatType, IntType, Mode, Named, UnknownName};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn round_trip<T>()
where
    T: Named + Debug + Display + FromStr<Err = UnknownName> + Serialize + DeserializeOwned,
{
    let mut names: Vec<&str> = Vec::new();
    for &value in T::ALL {
        let name = value.name();
        names.push(name);
        assert_eq!(value.to_string(), name);
        assert_eq!(T::from_name(name), Some(value));
        assert_eq!(name.parse::<T>(), Ok(value));
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, format!("{name:?}"));
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
        // From a reader nothing can be borrowed.
        assert_eq!(
            serde_json::from_reader::<_, T>(json.as_bytes()).unwrap(),
            value
        );
    }
    for &(alias, value) in T::ALIASES {
        names.push(alias);
        assert_eq!(alias.parse::<T>(), Ok(value));
        assert_eq!(
            serde_json::from_str::<T>(&format!("{alias:?}")).unwrap(),
            value
        );
    }
    assert!(names.iter().all(|name| *name == name.to_lowercase()));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "no name twice");

    for wrong in ["", "Int8", "f32 ", "no such name"] {
        let error = wrong.parse::<T>().unwrap_err().to_string();
        for value in T::ALL {
            assert!(error.contains(value.name()), "{error}");
        }
        let stored = serde_json::from_str::<T>(&format!("{wrong:?}")).unwrap_err();
        assert!(stored.to_string().starts_with(&error), "{stored}");
    }
}

#[test]
fn every_choice_survives_a_round_trip() {
    round_trip::<IntType>();
    round_trip::<FloatType>();
    round_trip::<Mode>();
    round_trip::<Dialect>();
    round_trip::<ActivationRule>();
}

#[test]
fn an_unknown_name_is_a_line_whatever_it_is() {
    for hostile in ["\u{1b}[2J\n\u{202e}", &"x".repeat(1 << 20)] {
        let error = hostile.parse::<Dialect>().unwrap_err().to_string();
        assert!(
            error.len() < 200 && !error.chars().any(char::is_control),
            "{error}"
        );
        assert!(error.is_ascii(), "{error}");
    }
}

#[test]
fn integer_types_follow_from_bits_and_sign() {
    for dtype in IntType::ALL {
        let (bits, signed) = (dtype.bits(), dtype.is_signed());
        assert_eq!(IntType::new(bits, signed), Some(dtype));
        assert_eq!(
            dtype.name(),
            format!("{}int{bits}", if signed { "" } else { "u" })
        );
        let count = dtype.max_value() - dtype.min_value() + 1;
        assert_eq!((count, dtype.min_value() < 0), (1 << bits, signed));
        let unit = dtype.packing().unit();
        assert!((unit * bits as usize).is_multiple_of(8));
        assert!((1..unit).all(|fewer| !(fewer * bits as usize).is_multiple_of(8)));
        for codes in [0, 1, 7, 8, 9, 1000] {
            let bytes = (codes * bits as usize).div_ceil(8);
            assert_eq!(dtype.storage_len(codes), bytes);
        }
        // No count overflows.
        let most = usize::MAX / 8 * bits as usize + (7 * bits as usize).div_ceil(8);
        assert_eq!(dtype.storage_len(usize::MAX), most);
    }
    for bits in [0, 1, 7, 9, u32::MAX] {
        assert_eq!(IntType::new(bits, true), None);
    }
}
