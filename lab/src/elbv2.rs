//! The Elastic Load Balancing v2 API.
