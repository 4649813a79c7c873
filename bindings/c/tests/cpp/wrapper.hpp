// What the two translation units of the test share.

#include "miamix.hpp"

miamix::Plan drawn_elsewhere(miamix::Op op, const miamix::BatchShape& shape);
