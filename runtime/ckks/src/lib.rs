//! RNS-CKKS on 32-bit words.
