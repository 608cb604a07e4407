//! A small AWS on loopback, to try deployments with the real function binaries.
//!
//! Every stand-in speaks the wire protocol of its service, so that the functions, the AWS SDKs and the AWS CLI
//! reach it with nothing but an endpoint URL. Nothing outside this crate knows that it exists.

pub mod api;
pub mod application;
pub mod cloudwatch;
pub mod elbv2;
pub mod lambda;
pub mod load_balancer;
pub mod ssm;
pub mod stepfunctions;
pub mod traffic;
