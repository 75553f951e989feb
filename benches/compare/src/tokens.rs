//! An issuer that imitates Logto. Its two kinds of keys and the form of its tokens are the same as
//! Logto's.

use std::{
    sync::LazyLock,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

pub const ISSUER: &str = "http://localhost:3001/oidc";
pub const AUDIENCE: &str = "https://shopping.api";
pub const SCOPE: &str = "read:products";

/// The kinds of keys that Logto uses: EC P-384 by default, or RSA with 4,096 bits after a rotation
/// to RSA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Es384,
    Rs256,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Es384, Self::Rs256];

    pub fn name(self) -> &'static str {
        match self {
            Self::Es384 => "es384",
            Self::Rs256 => "rs256",
        }
    }
}

pub struct Signer {
    ec: EcdsaKeyPair,
    /// The RSA key is generated when it is first used, because the generation takes seconds.
    rsa: LazyLock<RsaKeyPair>,
}

/// The variable content of a token. The rest is the same in every token.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// The number in `jti`, which makes the token unique.
    pub number: usize,
    pub issuer: &'a str,
    pub subject: &'a str,
    pub audience: &'a str,
    /// The key id in the header. If it is `None`, the header contains the id of the signing key.
    pub kid: Option<&'a str>,
    /// The time until the expiry, in seconds. A negative number gives an expired token.
    pub expires_in: i64,
}

impl Default for Content<'_> {
    fn default() -> Self {
        Self {
            number: 0,
            issuer: ISSUER,
            subject: "qwq400v2qajyvqwo0uuq9",
            audience: AUDIENCE,
            kid: None,
            expires_in: 3600,
        }
    }
}

impl Signer {
    pub fn new() -> Self {
        Self {
            ec: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            rsa: LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa4096).unwrap()),
        }
    }

    /// Creates a signer with an RSA key of 2,048 bits. Other identity servers use this size. The
    /// RS256 tokens of this signer are 341 characters shorter than tokens that are signed with a
    /// 4,096-bit key.
    pub fn with_short_rsa() -> Self {
        let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self { rsa: LazyLock::new(rsa), ..Self::new() }
    }

    pub fn jwks(&self) -> String {
        format!(r#"{{"keys":[{},{}]}}"#, self.jwk(Kind::Es384), self.jwk(Kind::Rs256))
    }

    /// Returns a JWKS without the RSA key, because the generation of that key takes seconds.
    pub fn jwks_es384(&self) -> String {
        format!(r#"{{"keys":[{}]}}"#, self.jwk(Kind::Es384))
    }

    /// Returns the JWK as Logto publishes it. The JWK of an RSA key has no `alg`.
    pub fn jwk(&self, kind: Kind) -> String {
        let kid = kid(kind);
        match kind {
            Kind::Es384 => {
                let point = self.ec.public_key().as_ref();
                let (x, y) = (encode(&point[1..49]), encode(&point[49..]));
                format!(
                    r#"{{"kty":"EC","use":"sig","alg":"ES384","crv":"P-384","kid":"{kid}","x":"{x}","y":"{y}"}}"#
                )
            }
            Kind::Rs256 => {
                let modulus = self.rsa.public_key().modulus();
                let n = encode(modulus.big_endian_without_leading_zero());
                format!(r#"{{"kty":"RSA","use":"sig","kid":"{kid}","e":"AQAB","n":"{n}"}}"#)
            }
        }
    }

    /// Returns the public key in the form that aws-lc-rs needs: the point of an EC key, or the
    /// PKCS #1 structure of an RSA key.
    pub fn public_key(&self, kind: Kind) -> &[u8] {
        match kind {
            Kind::Es384 => self.ec.public_key().as_ref(),
            Kind::Rs256 => self.rsa.public_key().as_ref(),
        }
    }

    pub fn token(&self, kind: Kind, content: Content<'_>) -> String {
        let Content { number, issuer, subject, audience, kid: other_kid, expires_in } = content;
        let (alg, kid) = match kind {
            Kind::Es384 => ("ES384", other_kid.unwrap_or(kid(kind))),
            Kind::Rs256 => ("RS256", other_kid.unwrap_or(kid(kind))),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let (issued, expires) = (now + expires_in - 3600, now + expires_in);
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
        let payload = format!(
            r#"{{"jti":"{number:021}","sub":"{subject}","iat":{issued},"exp":{expires},"scope":"{SCOPE} write:products","client_id":"qwq400v2qajyvqwo0uuq9","iss":"{issuer}","aud":"{audience}"}}"#
        );
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let random = SystemRandom::new();
        let signature = match kind {
            Kind::Es384 => self.ec.sign(&random, signed.as_bytes()).unwrap().as_ref().to_vec(),
            Kind::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
        };
        format!("{signed}.{}", encode(&signature))
    }
}

/// Returns the same token with an invalid signature.
pub fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = decode(signature);
    let middle = signature.len() / 2;
    signature[middle] ^= 1;
    format!("{signed}.{}", encode(&signature))
}

pub fn decode(segment: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(segment).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Returns a key id that is as long as the key ids of Logto.
fn kid(kind: Kind) -> &'static str {
    match kind {
        Kind::Es384 => "ZuydfINXJZloSx7ICtyIE5jVpEQ6T_ESHpkokY9DBuk",
        Kind::Rs256 => "QThLgstJSvnXOu3MeWHpOypxAx3Modbfcyip4WDeQSs",
    }
}
