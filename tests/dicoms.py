"DICOM files of phantoms, written by pydicom: no patient has ever seen them"
import io
import numpy as np, pytest
from PIL import Image
pydicom = pytest.importorskip('pydicom', reason="pydicom is not installed: pip install 'fundus_fastai[dicom]'")
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, OphthalmicPhotography8BitImageStorage,
                         OphthalmicTomographyImageStorage, RLELossless, generate_uid)
from fundus_fastai.phantom.oct import phantom_oct

WHO = dict(PatientName='Doe^Jane', PatientID='MRN 4711', PatientBirthDate='19540302', PatientSex='F', StudyDate='20230901', Laterality='L',
           Manufacturer='Phantom', ManufacturerModelName='One', StudyInstanceUID='1.2.3.4711')

def scans(n=5, label='DME', seed=0, size=(96,128)): return np.stack([phantom_oct(label, seed=seed+k, size=size).image for k in range(n)])

def packed(a, how):
    "The frames `a` compressed by Pillow"
    def one(o): Image.fromarray(o).save(b := io.BytesIO(), **how); return b.getvalue()
    return encapsulate([one(o) for o in a])

def dicom(a, sop=None, syntax=ExplicitVRLittleEndian, **facts):
    "A dataset of the frames `a` [n,h,w] or [n,h,w,3], uint8 or uint16"
    ds,rgb = Dataset(),a.ndim==4
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax==RLELossless else syntax
    ds.SOPClassUID = sop or (OphthalmicPhotography8BitImageStorage if rgb else OphthalmicTomographyImageStorage)
    ds.SOPInstanceUID,ds.Rows,ds.Columns = generate_uid(),*a.shape[1:3]
    if len(a)>1: ds.NumberOfFrames = len(a)
    bits = 8*a.dtype.itemsize
    ds.SamplesPerPixel,ds.BitsAllocated,ds.BitsStored,ds.HighBit,ds.PixelRepresentation = 3 if rgb else 1,bits,bits,bits-1,0
    ds.PhotometricInterpretation = 'RGB' if rgb else 'MONOCHROME2'
    if rgb: ds.PlanarConfiguration = 0
    for k,v in (WHO | facts).items(): setattr(ds, k, v)
    if syntax==JPEGBaseline8Bit: ds.PixelData = packed(a, dict(format='JPEG', quality=95, subsampling=0))
    elif syntax==JPEG2000Lossless: ds.PixelData = packed(a, dict(format='JPEG2000', no_jp2=True))
    else: ds.PixelData = a.tobytes()+b'\0'*(a.nbytes%2)
    if syntax==RLELossless: ds.compress(RLELossless)
    return ds

def write(file, a, **kwargs):
    "Write it; its path as text"
    dicom(a, **kwargs).save_as(file, enforce_file_format=True)
    return str(file)
