//! JWTs of an issuer: what is accepted, and all the ways in which one is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use par_access::{Access, BadJwt, Caller, Issuer, Keys, Unidentified, Verified};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example";
const NOW_S: u64 = 1_000_000;

enum Signer {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn es256() -> Self {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
        Self::Es256(key.expect("a key"))
    }

    fn eddsa() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key"))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Es256(key) => {
                let point = key.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) })
            }
            Self::EdDsa(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": encoded(key.public_key()) })
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encoded(header.to_string()),
            encoded(claims.to_string())
        );
        let signature = match self {
            Self::Es256(key) => {
                let signature = key.sign(&SystemRandom::new(), signed.as_bytes());
                signature.expect("signed").as_ref().to_vec()
            }
            Self::EdDsa(key) => key.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        format!("{signed}.{}", encoded(signature))
    }
}

fn keys(all: &[Value], generation: u64) -> Keys {
    Keys::parse(json!({ "keys": all }).to_string().as_bytes(), generation).expect("keys")
}

fn access(keys: Keys) -> Access {
    let issuer = Issuer {
        issuer: ISSUER.to_owned(),
        audience: BTreeSet::from(["par".to_owned()]),
        roles_claim: "realm.roles".to_owned(),
        scopes: ["call".parse().expect("a scope")].into(),
    };
    Access {
        issuer: Some(Arc::new(issuer)),
        keys: Arc::new(keys),
        ..Access::default()
    }
}

fn identify(access: &Access, jwt: &str) -> Result<Arc<Caller>, Unidentified> {
    access.identify(jwt, &mut Verified::default(), NOW_S * 1000)
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "par", "sub": "alice", "exp": NOW_S + 600, "realm": { "roles": ["staff", "not a role"] } })
}

fn header(signer: &Signer) -> Value {
    json!({ "alg": signer.algorithm(), "kid": "1", "typ": "JWT" })
}

#[test]
fn whom_the_issuer_vouches_for_is_known_with_roles() {
    for signer in [Signer::es256(), Signer::eddsa()] {
        let access = access(keys(&[signer.jwk("1")], 1));
        let caller = identify(&access, &signer.sign(&header(&signer), &claims())).expect("known");
        let Caller::Subject(subject, standing) = &*caller else {
            panic!("{caller:?}");
        };
        assert_eq!(subject, "alice");
        let roles: Vec<_> = standing.roles.iter().map(|role| role.as_str()).collect();
        assert_eq!(roles, ["staff"]);
    }
}

/// RFC 7515, A.2, whose signature needs no private key of ours.
#[test]
fn rs256_is_verified_as_in_the_standard() {
    const JWT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let key = json!({
        "kty": "RSA",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
        "e": "AQAB",
    });
    let mut access = access(keys(&[key], 1));
    let issuer = Issuer {
        issuer: "joe".to_owned(),
        ..(**access.issuer.as_ref().expect("one")).clone()
    };
    access.issuer = Some(Arc::new(issuer));
    // The signature is right, so it comes to the claims: the example is meant for nobody.
    assert_eq!(
        identify(&access, JWT),
        Err(Unidentified::Jwt(BadJwt::Audience))
    );
    let forged = JWT.replacen(".cC4h", ".cC4i", 1);
    assert_eq!(
        identify(&access, &forged),
        Err(Unidentified::Jwt(BadJwt::Signature))
    );
}

#[test]
fn claims_that_are_wrong_missing_or_of_another_type_are_refused() {
    let signer = Signer::es256();
    let access = access(keys(&[signer.jwk("1")], 1));
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        match value.is_null() {
            true => drop(claims.as_object_mut().expect("an object").remove(name)),
            false => claims[name] = value,
        }
        identify(&access, &signer.sign(&header(&signer), &claims)).err()
    };
    let jwt = |error| Some(Unidentified::Jwt(error));
    for (name, value, error) in [
        ("iss", json!("https://other"), jwt(BadJwt::Issuer)),
        ("iss", Value::Null, jwt(BadJwt::Malformed)),
        ("aud", json!("other"), jwt(BadJwt::Audience)),
        ("aud", json!([]), jwt(BadJwt::Audience)),
        ("aud", Value::Null, jwt(BadJwt::Audience)),
        ("aud", json!(["other", "par"]), None),
        ("exp", json!(NOW_S - 61), jwt(BadJwt::Expired)),
        ("exp", json!(NOW_S - 30), None),
        ("exp", Value::Null, jwt(BadJwt::Malformed)),
        ("exp", json!("9999999999"), jwt(BadJwt::Malformed)),
        ("exp", json!(-1), jwt(BadJwt::Malformed)),
        ("exp", json!(NOW_S as f64 + 1.5), None),
        ("nbf", json!(NOW_S + 61), jwt(BadJwt::NotYet)),
        ("nbf", json!(NOW_S + 30), None),
        ("nbf", json!("0"), jwt(BadJwt::Malformed)),
        ("sub", Value::Null, jwt(BadJwt::Malformed)),
        ("sub", json!(""), jwt(BadJwt::Malformed)),
        ("realm", json!("nothing nested"), None),
    ] {
        assert_eq!(with(name, value.clone()), error, "{name}: {value}");
    }
}

#[test]
fn no_header_chooses_how_it_is_verified() {
    let (signer, other) = (Signer::es256(), Signer::eddsa());
    let access = access(keys(&[signer.jwk("1"), other.jwk("2")], 1));
    let signed = |header: Value| identify(&access, &signer.sign(&header, &claims())).err();
    let jwt = |error| Some(Unidentified::Jwt(error));
    for (header, error) in [
        (json!({ "alg": "none", "kid": "1" }), jwt(BadJwt::Algorithm)),
        (
            json!({ "alg": "HS256", "kid": "1" }),
            jwt(BadJwt::Algorithm),
        ),
        (
            json!({ "alg": "es256", "kid": "1" }),
            jwt(BadJwt::Algorithm),
        ),
        (
            json!({ "alg": "EdDSA", "kid": "1" }),
            jwt(BadJwt::Algorithm),
        ),
        (
            json!({ "alg": "RS256", "kid": "1" }),
            jwt(BadJwt::Algorithm),
        ),
        (
            json!({ "alg": "EdDSA", "kid": "2" }),
            jwt(BadJwt::Signature),
        ),
        (
            json!({ "alg": "ES256", "kid": "3" }),
            jwt(BadJwt::UnknownKey),
        ),
        (json!({ "alg": "ES256" }), None),
        (
            json!({ "alg": "ES256", "kid": "1", "crit": ["x"] }),
            jwt(BadJwt::Malformed),
        ),
        (
            json!({ "alg": "ES256", "kid": "1", "typ": "logout+jwt" }),
            jwt(BadJwt::Malformed),
        ),
        (json!({ "alg": "ES256", "kid": 1 }), jwt(BadJwt::Malformed)),
        (json!({ "kid": "1" }), jwt(BadJwt::Malformed)),
    ] {
        assert_eq!(signed(header.clone()), error, "{header}");
    }
    let unsigned = format!(
        "{}.{}.",
        encoded(json!({ "alg": "none" }).to_string()),
        encoded(claims().to_string())
    );
    assert_eq!(identify(&access, &unsigned).err(), jwt(BadJwt::Algorithm));
}

#[test]
fn a_key_that_was_withdrawn_vouches_for_nobody_any_more() {
    let (old, new) = (Signer::es256(), Signer::es256());
    let mut verified = Verified::default();
    let jwt = old.sign(&header(&old), &claims());
    let before = access(keys(&[old.jwk("1")], 1));
    for _ in 0..2 {
        assert!(before.identify(&jwt, &mut verified, NOW_S * 1000).is_ok());
    }
    let after = access(keys(&[new.jwk("2")], 2));
    let refused = after.identify(&jwt, &mut verified, NOW_S * 1000);
    assert_eq!(refused, Err(Unidentified::Jwt(BadJwt::UnknownKey)));
}

#[test]
fn keys_that_cannot_be_used_are_left_out_and_none_at_all_is_an_error() {
    let signer = Signer::es256();
    let mut for_encryption = signer.jwk("e");
    for_encryption["use"] = json!("enc");
    let symmetric = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "1", "alg": "HS256" });
    let short = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" });
    let all = json!({ "keys": [symmetric, for_encryption, short, 1, signer.jwk("1")] });
    assert_eq!(
        Keys::parse(all.to_string().as_bytes(), 1)
            .expect("one")
            .len(),
        1
    );
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"keys": []}"#,
        r#"{"keys": [{"kty": "oct"}]}"#,
    ] {
        assert!(Keys::parse(bad.as_bytes(), 1).is_err(), "{bad}");
    }
    let many = json!({ "keys": vec![signer.jwk("1"); 101] });
    assert!(Keys::parse(many.to_string().as_bytes(), 1).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_jwt_that_was_changed_anywhere_is_no_jwt_of_the_issuer(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
        let signer = Signer::es256();
        let access = access(keys(&[signer.jwk("1")], 1));
        let jwt = signer.sign(&header(&signer), &claims());
        let at = at.index(jwt.len());
        let mut changed = jwt.clone();
        changed.replace_range(at..=at, &with);
        prop_assume!(changed != jwt);
        prop_assert!(identify(&access, &changed).is_err());
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "(ey)?[A-Za-z0-9_.-]{0,200}") {
        let access = access(Keys::default());
        prop_assert!(identify(&access, &text).is_err());
    }
}
