//! What can end the replication.

use std::fmt;
