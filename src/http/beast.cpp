// SPDX-License-Identifier: Apache-2.0
// The one place where Beast's own code is compiled: the other files that include it see declarations only.
#include <boost/beast/src.hpp>
