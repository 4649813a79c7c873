/* A miamix_tensor is DLPack's DLTensor, field by field; so are its parts, and the numbers that they hold. */

#include "miamix.h"

#include <dlpack.h>

#ifdef __cplusplus
#define ASSERT(condition) static_assert(condition, #condition)
#else
#define ASSERT(condition) _Static_assert(condition, #condition)
#endif
/* A struct of ours and one of DLPack; two fields at one place, of one size. */
#define SAME_STRUCT(ours, theirs) ASSERT(sizeof(ours) == sizeof(theirs))
#define SAME_FIELD(ours, theirs, field)                         \
    ASSERT(offsetof(ours, field) == offsetof(theirs, field) &&  \
           sizeof(((ours *)0)->field) == sizeof(((theirs *)0)->field))

SAME_STRUCT(miamix_device, DLDevice);
SAME_FIELD(miamix_device, DLDevice, device_type);
SAME_FIELD(miamix_device, DLDevice, device_id);

SAME_STRUCT(miamix_dtype, DLDataType);
SAME_FIELD(miamix_dtype, DLDataType, code);
SAME_FIELD(miamix_dtype, DLDataType, bits);
SAME_FIELD(miamix_dtype, DLDataType, lanes);

SAME_STRUCT(miamix_tensor, DLTensor);
SAME_FIELD(miamix_tensor, DLTensor, data);
SAME_FIELD(miamix_tensor, DLTensor, device);
SAME_FIELD(miamix_tensor, DLTensor, ndim);
SAME_FIELD(miamix_tensor, DLTensor, dtype);
SAME_FIELD(miamix_tensor, DLTensor, shape);
SAME_FIELD(miamix_tensor, DLTensor, strides);
SAME_FIELD(miamix_tensor, DLTensor, byte_offset);

ASSERT((int)MIAMIX_DEVICE_TYPE_CPU == (int)kDLCPU);
ASSERT((int)MIAMIX_DEVICE_TYPE_CUDA == (int)kDLCUDA);
ASSERT((int)MIAMIX_DEVICE_TYPE_CUDA_HOST == (int)kDLCUDAHost);

ASSERT((int)MIAMIX_DTYPE_CODE_INT == (int)kDLInt);
ASSERT((int)MIAMIX_DTYPE_CODE_UINT == (int)kDLUInt);
ASSERT((int)MIAMIX_DTYPE_CODE_FLOAT == (int)kDLFloat);
ASSERT((int)MIAMIX_DTYPE_CODE_BFLOAT == (int)kDLBfloat);
ASSERT((int)MIAMIX_DTYPE_CODE_BOOL == (int)kDLBool);

int main(void) {
    return 0;
}
