"What older packages do otherwise, done to those that are here: Colab and clinics have pandas 2 and OpenCV 4"
import sys
from importlib import metadata
import cv2, numpy as np, pandas as pd, pytest
from fundus_fastai.cli import _sentence
from fundus_fastai.core import DataError, too_old
from fundus_fastai.data.read import read_folder, read_kermany
from fundus_fastai.phantom.fundus import fundus_truth, phantom_fundus, save_fundus
from made import touch

@pytest.fixture
def pandas2(monkeypatch):
    "`fillna` makes numbers of a column of objects in which all are missing still"
    def fillna(self, *args, real=pd.Series.fillna, **kwargs):
        s = real(self, *args, **kwargs)
        return s.astype(float) if s.isna().all() else s
    monkeypatch.setattr(pd.Series, 'fillna', fillna)

def test_names_that_tell_no_eye_and_no_patient(pandas2, tmp_path):
    "`fundus demo` ended there, and whatever read a Kermany set or class folders"
    touch(tmp_path/'k', *(f'OCT2017/train/{c}/{c}-{i}-1.jpeg' for c in ('CNV','DME') for i in (1,2)))
    touch(tmp_path/'f', *(f'{c}/eye_{o}.png' for c in 'ab' for o in 'xyz'))
    df = read_kermany(tmp_path/'k')
    assert sorted(df.patient)==['1','1','2','2'] and df.eye.isna().all()
    assert len(read_folder(tmp_path/'f'))==6

def test_the_truth_beside_a_photograph_without_the_newest_opencv(monkeypatch, tmp_path):
    monkeypatch.delattr(cv2, 'IMREAD_COLOR_RGB', raising=False)
    o = phantom_fundus(seed=3)
    (tmp_path/'truth').mkdir()
    save_fundus(o, f := tmp_path/'a.png', tmp_path/'truth/a.npz')
    assert np.array_equal(fundus_truth(f).image, o.image)

def test_an_older_pydicom_is_not_a_damaged_file(monkeypatch, tmp_path):
    "The file was said to be damaged, and was to be fetched again"
    pytest.importorskip('pydicom')
    from dicoms import scans, write
    from fundus_fastai.image.read import read_image
    f = write(tmp_path/'a.dcm', scans(1))
    monkeypatch.setitem(sys.modules, 'pydicom.pixels', None)
    with pytest.raises(DataError, match=r'a\.dcm cannot be read: pydicom.pixels .* pip install "fundus_fastai\[dicom\]"'): read_image(f)

def test_packages_below_the_bounds_are_named(monkeypatch):
    asked = ['pandas>=2.1','timm>=1.0.31','pydicom>=3; extra == "dicom"','pytest>=9; extra == "test"','captum>=0.7; extra == "explain"']
    has = {'pandas':'1.5.3', 'timm':'1.1.0.dev0', 'pydicom':'2.4.4', 'pytest':'8.0'}
    def version(name):
        if name not in has: raise metadata.PackageNotFoundError(name)
        return has[name]
    monkeypatch.setattr(metadata, 'requires', lambda name: asked)
    monkeypatch.setattr(metadata, 'version', version)
    assert too_old()==['pandas>=2.1','pydicom>=3']
    assert 'pip install "pandas>=2.1" "pydicom>=3"; with --debug' in _sentence(AttributeError('str'))[0]
    has.update(pandas='2.1.4', pydicom='3.0.1')
    assert too_old()==[] and 'pip' not in _sentence(AttributeError('str'))[0]
    has.update(fastai='2.8.7', fastcore='1.14.5')
    assert too_old()==[]
    has['fastcore'] = '2.2.41' # as the newest fasthtml brings it: training ended in a TypeError of fastai's
    assert too_old()==['fastai>=2.8.12']
