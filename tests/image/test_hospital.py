"What a clinic has: DICOM of every sort, Heidelberg volumes, damaged ones, and nobody's name"
import errno, json, os, re, shutil, subprocess, sys, time, tracemalloc
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
import dicoms
from dicoms import Dataset, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, WHO, dicom, scans, write
from fundus_fastai.core import DataError
from fundus_fastai.data.audit import audit
from fundus_fastai.data.read import read_csv, read_folder
from fundus_fastai.data.splits import digests, split_patients
from fundus_fastai.image import hospital
from fundus_fastai.image.hospital import dicom_facts, file_facts, frames_of, image_told, key_in, patient_digest, years
from fundus_fastai.image.read import check_images, image_files, read_image, unread_files
from fundus_fastai.phantom.fundus import phantom_fundus
from fundus_fastai.run.check import check_data
from fundus_fastai.vision.steps import load_frame

HEYEX = Path(os.environ.get('FUNDUS_TEST_DATA') or Path(__file__).resolve().parents[3]/'shared/data')/'heyex_fixtures'

@pytest.fixture(autouse=True)
def key(tmp_path, monkeypatch):
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/'key/patients.key'))
    monkeypatch.delenv('FUNDUS_BURNED', raising=False)

def refused(path, why):
    with pytest.raises(DataError, match=why) as e: read_image(path)
    assert str(e.value).startswith(str(path)) and len(str(e.value))<400 and 'Traceback' not in str(e.value)

# --- pixels

@pytest.mark.parametrize('syntax,off', [(None,0), (ImplicitVRLittleEndian,0), (RLELossless,0), (JPEG2000Lossless,0), (JPEGBaseline8Bit,12)])
def test_transfer_syntaxes_of_photographs_and_volumes(tmp_path, syntax, off):
    "Gray volumes and color photographs, plain and compressed, come back as they were"
    kw = dict(syntax=syntax) if syntax else {}
    gray,rgb = scans(3),phantom_fundus(seed=3, size=96).image[None]
    v = write(tmp_path/'v.dcm', gray, **kw)
    found = np.stack([read_image(o) for o in frames_of(v)])
    assert found.shape==gray.shape and np.abs(found-gray.astype(float)).mean()<=off
    if syntax==JPEGBaseline8Bit: kw['PhotometricInterpretation'] = 'YBR_FULL'
    if syntax==JPEG2000Lossless: kw['PhotometricInterpretation'] = 'YBR_RCT'
    p = write(tmp_path/'p.dcm', rgb, **kw)
    assert frames_of(p)==[p] and np.abs(read_image(p)-rgb[0].astype(float)).mean()<=off
    assert read_image(p, gray=True).ndim==2

def test_compressed_as_archives_do(tmp_path):
    "JPEG Lossless and JPEG-LS need GDCM; a compression that nothing here unpacks is named, and the file not called damaged"
    for k in ('HTJ2KLossless','MPEG2MPML'):
        ds = dicom(scans(1), syntax=JPEGBaseline8Bit)
        ds.file_meta.TransferSyntaxUID = getattr(dicoms.pydicom.uid, k)
        ds.save_as(tmp_path/f'{k}.dcm', enforce_file_format=True)
        refused(tmp_path/f'{k}.dcm', 'is compressed as .*no decoder for it is installed: pip install')
    gdcm = pytest.importorskip('gdcm', reason="GDCM is not installed: pip install 'fundus_fastai[dicom]'")
    for k in ('JPEGLosslessProcess14_1','JPEGLSLossless'):
        r,c,w = gdcm.ImageReader(),gdcm.ImageChangeTransferSyntax(),gdcm.ImageWriter()
        r.SetFileName(write(tmp_path/'plain.dcm', scans(3)))
        assert r.Read()
        c.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, k)))
        c.SetInput(r.GetImage())
        assert c.Change()
        w.SetFile(r.GetFile()); w.SetImage(c.GetOutput()); w.SetFileName(str(tmp_path/f'{k}.dcm'))
        assert w.Write()
        assert (np.stack([read_image(o) for o in frames_of(tmp_path/f'{k}.dcm')])==scans(3)).all()

def test_inverted_windowed_palette_and_few_bits(tmp_path):
    a = scans(2)
    deep = a.astype('uint16')*40+400
    window = dict(WindowCenter=400+40*128, WindowWidth=256*40)
    files = dict(inverted=write(tmp_path/'1.dcm', 255-a, PhotometricInterpretation='MONOCHROME1'), windowed=write(tmp_path/'2.dcm', deep, **window),
                 both=write(tmp_path/'3.dcm', 65535-deep, PhotometricInterpretation='MONOCHROME1', WindowCenter=65535-400-40*127, WindowWidth=256*40),
                 rescaled=write(tmp_path/'4.dcm', deep, RescaleSlope=1/40, RescaleIntercept=-10, WindowCenter=128, WindowWidth=256))
    for k,f in files.items(): assert np.abs(read_image(f+'#2')-a[1].astype(float)).max()<=1.01, k
    refused(write(tmp_path/'5.dcm', deep)+'#1', 'names no window')
    four = write(tmp_path/'6.dcm', a//16, BitsStored=4, HighBit=3)
    assert read_image(four+'#1').max()==17*(a[0]//16).max()
    red = dict(zip(('Red','Green','Blue'), np.stack([np.arange(256), 255-np.arange(256), np.zeros(256)]).astype('uint16')))
    lut = {f'{k}PaletteColorLookupTableData':(v*257).astype('uint16').tobytes() for k,v in red.items()}
    lut |= {f'{k}PaletteColorLookupTableDescriptor':[256,0,16] for k in red}
    p = read_image(write(tmp_path/'7.dcm', a[:1], PhotometricInterpretation='PALETTE COLOR', **lut))
    assert p.shape==(96,128,3) and (p[...,0]==a[0]).all() and (p[...,1]==255-a[0]).all()

def test_frames_have_their_own_window_and_side(tmp_path):
    "Functional groups of newer files: of each frame, or of all"
    def group(side, c):
        g,f,v = Dataset(),Dataset(),Dataset()
        f.FrameLaterality,v.WindowCenter,v.WindowWidth = side,c,256
        g.FrameAnatomySequence,g.FrameVOILUTSequence = [f],[v]
        return g
    a = scans(2)
    f = write(tmp_path/'v.dcm', a, PerFrameFunctionalGroupsSequence=[group('R', 128), group('L', 148)], Laterality='')
    assert (read_image(f+'#1')==a[0]).all() and np.abs(read_image(f+'#2')-np.clip(a[1]-20., 0, 255)).max()<=1
    assert file_facts(frames_of(f)).eye.tolist()==['R','L']
    g = write(tmp_path/'w.dcm', a, SharedFunctionalGroupsSequence=[group('R', 128)], Laterality='')
    assert file_facts(frames_of(g)).eye.tolist()==['R','R']

@pytest.mark.parametrize('photometric', ['MONOCHROME2','MONOCHROME1'])
def test_a_window_by_the_standard(tmp_path, photometric):
    "As pydicom computes it, of 12 bits; what is brighter or darker than the window stays white and black, and of two windows the first counts"
    from pydicom.pixels import apply_rescale, apply_windowing
    a = np.arange(4096, dtype='uint16').reshape(1,64,64)
    f = write(tmp_path/'a.dcm', a, BitsStored=12, HighBit=11, PhotometricInterpretation=photometric,
              WindowCenter=[1500,40], WindowWidth=[800,400], RescaleSlope=2, RescaleIntercept=-1000)
    ds = dicoms.pydicom.dcmread(f)
    want = apply_windowing(apply_rescale(a[0], ds), ds, index=0)
    want = (want-want.min())/np.ptp(want)*255
    if photometric=='MONOCHROME1': want = 255-want
    im = read_image(f)
    assert np.abs(im-want).max()<=.51 and {im[0,0],im[-1,-1]}=={0,255}

def test_what_a_header_says_it_shows(tmp_path):
    "A photograph, a tomography, a report; Heidelberg's files are scans, and other pictures say nothing"
    photo,scan = write(tmp_path/'p.dcm', phantom_fundus(seed=3, size=96).image[None]),write(tmp_path/'s.dcm', scans(2))
    assert image_told(photo)=='fundus' and image_told(scan)==image_told(f'{scan}#2')=='oct'
    assert image_told(write(tmp_path/'r.dcm', scans(1), sop='1.2.840.10008.5.1.4.1.1.88.33')) is None
    (tmp_path/'v.vol').write_bytes(b'HSF-OCT-103')
    for o,text in (('x.xml','<clinic/>'), ('y.xml','<HEDX>')): (tmp_path/o).write_text(text)
    assert [image_told(tmp_path/o) for o in ('v.vol','y.xml','x.xml','x.png')]==['oct','oct',None,None]

@pytest.mark.parametrize('n', (-1, 10_001))
def test_a_number_of_pictures_that_no_eye_has(tmp_path, n):
    f = write(tmp_path/'a.dcm', scans(1), NumberOfFrames=n)
    refused(f, f'declares {n} pictures')
    assert frames_of(f)==[f] and len(frames_of(write(tmp_path/'b.dcm', scans(1), NumberOfFrames=10_000)))==10_000

def test_a_file_of_old_times_without_a_preamble(tmp_path):
    ds = dicom(a := scans(2), syntax=ImplicitVRLittleEndian)
    ds.save_as(tmp_path/'old.dcm', implicit_vr=True, little_endian=True)
    assert (tmp_path/'old.dcm').read_bytes()[128:132]!=b'DICM'
    assert (read_image(f'{tmp_path}/old.dcm#2')==a[1]).all() and dicom_facts(tmp_path/'old.dcm')['age']==69.5

# --- whose eye

@pytest.mark.parametrize('facts,eye', [({},'L'), (dict(ImageLaterality='R'),'R'), (dict(Laterality='B'),None), (dict(Laterality=''),None),
                                       (dict(ImageLaterality='U', Laterality='R'),'R')])
def test_side(tmp_path, facts, eye): assert dicom_facts(write(tmp_path/'a.dcm', scans(1), **facts))['eye']==eye

@pytest.mark.parametrize('facts,age', [({},69.5), (dict(PatientAge='045Y'),45), (dict(PatientAge='018M'),1.5), (dict(PatientAge='026W'),.5), (dict(PatientAge='073D'),.2), (dict(PatientBirthDate=''),None),
                                       (dict(AcquisitionDateTime='20240302101500.000000'),70), (dict(StudyDate='19000101'),None)])
def test_age(tmp_path, facts, age):
    found = dicom_facts(write(tmp_path/'a.dcm', scans(1), **facts))['age']
    assert np.isnan(found) if age is None else found==age

def test_missing_tags_are_missing_values(tmp_path):
    ds = dicom(scans(1))
    for k in WHO: delattr(ds, k)
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    f = dicom_facts(tmp_path/'a.dcm')
    assert f['patient'] is f['eye'] is f['sex'] is f['camera'] is None and np.isnan(f['age'])
    assert read_image(tmp_path/'a.dcm').shape==(96,128)

def test_patients_are_keyed_digests(tmp_path, monkeypatch):
    "The same on this computer in any file, another with another key; the key is for its owner alone, and is made once by many"
    a,b = (dicom_facts(write(tmp_path/o, scans(1)))['patient'] for o in ('a.dcm','b.dcm'))
    assert a==b==patient_digest('MRN 4711') and a!=patient_digest('MRN 4712') and len(a)==16
    assert (tmp_path/'key/patients.key').stat().st_mode & 0o777==0o600
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/'other'))
    assert patient_digest('MRN 4711')!=a
    (tmp_path/'short').write_text('abc')
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/'short'))
    with pytest.raises(DataError, match='is no key'): patient_digest('1')
    (tmp_path/'short').write_bytes(b'\xff\xd8'*99)
    with pytest.raises(DataError, match='is no key but another file'): patient_digest('1')
    monkeypatch.delenv('FUNDUS_PATIENT_KEY')
    monkeypatch.setenv('FUNDUS_HOME', '~nobodyx/y')
    with pytest.raises(DataError, match='FUNDUS_HOME=~nobodyx/y'): patient_digest('1')
    new = tmp_path/'many/k'
    code = f"from fundus_fastai.image.hospital import key_in; print(key_in({str(new)!r}).decode())"
    ps = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({p.communicate()[0].strip() for p in ps})==1 and [o.name for o in new.parent.iterdir()]==['k']

@pytest.mark.parametrize('n,ok', [(31,False), (32,True)])
def test_how_long_a_key_is(tmp_path, n, ok):
    (tmp_path/'k').write_text('f'*n+'\n')
    if ok: assert key_in(tmp_path/'k')==b'f'*n
    else:
        with pytest.raises(DataError, match='is no key: restore it'): key_in(tmp_path/'k')

def test_a_key_on_a_disk_without_links(tmp_path, monkeypatch):
    "As a share of Windows: made once all the same, for its owner alone, and nothing is left beside it"
    def refuse(*args): raise OSError('no links here')
    monkeypatch.setattr(os, 'link', refuse)
    key = key_in(tmp_path/'key/patients.key')
    assert key_in(tmp_path/'key/patients.key')==key and len(key)==64
    assert [(o.name, o.stat().st_mode & 0o777) for o in (tmp_path/'key').iterdir()]==[('patients.key', 0o600)]

def test_a_key_that_cannot_be_kept_leaves_nothing(tmp_path, monkeypatch):
    "A full disk left half a key under a hidden name, and nothing removed it"
    def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m, pytest.raises(DataError, match='cannot be kept .No space left'):
        m.setattr(os, 'fsync', full)
        key_in(tmp_path/'key/patients.key')
    assert not [*(tmp_path/'key').iterdir()] and len(key_in(tmp_path/'key/patients.key'))==64

def test_a_number_without_its_zeros_is_the_same_patient(tmp_path):
    "As in tables; two devices of a clinic may write it otherwise"
    a,b,c = (dicom_facts(write(tmp_path/'a.dcm', scans(1), PatientID=o))['patient'] for o in ('A 0007',' a 7','A 70'))
    assert a==b!=c
    assert [patient_digest(o, 'North') for o in (None,'',' ','\t ')]==[None]*4, 'people without a number are not one'

def test_one_number_of_two_issuers_is_two_patients(tmp_path):
    "unless it stands somewhere without an issuer, where nobody can tell, and one person on two sides would be worse"
    for k,(who,issuer) in enumerate([('1','North'), ('1','South'), ('1','NORTH'), ('2','North'), ('2','')]):
        (tmp_path/'DME').mkdir(exist_ok=True)
        write(tmp_path/f'DME/{k}.dcm', scans(1), PatientID=who, IssuerOfPatientID=issuer)
    (tmp_path/'NORMAL').mkdir()
    write(tmp_path/'NORMAL/5.dcm', scans(1, 'NORMAL'), PatientID='')
    df = read_folder(tmp_path).sort_values('path').patient.tolist()
    assert len(set(df))==4 and df[0]==df[2]!=df[1] and df[3]==df[4]==patient_digest('2') and 'North' not in str(df)

def test_a_key_that_cannot_be_kept_is_told(tmp_path, monkeypatch):
    "As in a container whose disk is read-only; without it all patients would be nobody, and a split would leak"
    (tmp_path/'full').write_text('')
    monkeypatch.setenv('FUNDUS_PATIENT_KEY', str(tmp_path/'full/patients.key'))
    with pytest.raises(DataError, match='patients.key, the key .* cannot be kept .*can be written'): file_facts([write(tmp_path/'a.dcm', scans(1))])
    assert file_facts(['scan.png']).empty

def test_no_identifier_passes(tmp_path):
    t = file_facts(frames_of(write(tmp_path/'v.dcm', scans(3)))).to_csv()
    assert not any(o in t for o in ('Doe','Jane','4711','1954','2023','1.2.3')) and 'female' in t

@pytest.mark.parametrize('said,eye', [('OD\0\0','R'), ('OS ','L'), ('R','R'), ('L\0','L'), ('',None), ('OU',None), (None,None)])
def test_side_and_age_of_a_heidelberg_file(said, eye):
    "A field of fixed length is filled up with zeros"
    [(im,facts)] = hospital._told(np.zeros((1,4,5)), said, '4711', '1950-07-01', '2020-07-01T10:00')
    assert (facts['eye'], facts['age'], facts['day'], im.dtype)==(eye, 70, '2020-07-01', np.uint8)

# --- refusals

def test_a_burned_in_name_is_refused_unless_allowed(tmp_path, monkeypatch):
    f = write(tmp_path/'a.dcm', scans(1), BurnedInAnnotation='YES')
    refused(f, 'burned into its picture.*FUNDUS_BURNED=1')
    monkeypatch.setenv('FUNDUS_BURNED', '1')
    assert read_image(f).shape==(96,128)
    assert read_image(write(tmp_path/'b.dcm', scans(1), BurnedInAnnotation='NO')).shape==(96,128)

def test_without_pixels(tmp_path):
    ds = dicom(scans(1))
    del ds.PixelData
    ds.save_as(tmp_path/'empty.dcm', enforce_file_format=True)
    refused(tmp_path/'empty.dcm', 'damaged, or DICOM that we cannot read')
    for k in ('Rows','Columns'): delattr(ds, k)
    ds.SOPClassUID = '1.2.840.10008.5.1.4.1.1.88.33'
    ds.save_as(tmp_path/'report.dcm', enforce_file_format=True)
    refused(tmp_path/'report.dcm', r'holds no picture \(Comprehensive SR Storage\)')
    (tmp_path/'a.dcm').touch()
    refused(tmp_path/'a.dcm', 'is empty')

def test_a_volume_is_not_one_picture(tmp_path):
    f = write(tmp_path/'v.dcm', scans(3))
    refused(f, 'holds 3 pictures: name one of them, as v.dcm#1')
    for k in (0,4): refused(f'{f}#{k}', 'the file holds 3')
    refused(tmp_path/'gone.dcm', 'does not exist')
    refused(f'{tmp_path}/gone.dcm#2', 'does not exist')
    refused(f'{tmp_path}/gone.png#2', 'does not exist')

def test_what_may_not_be_read_is_told():
    with pytest.raises(DataError, match='may not be read: check its permissions'), hospital.sound('DICOM'): raise PermissionError(13, 'denied')

def test_damaged_files_are_a_sentence_and_small(tmp_path):
    "Cut off anywhere, bytes changed, sequences in sequences, a gigabyte declared: no crash, no long wait, no memory"
    raw = Path(write(tmp_path/'v.dcm', scans(3))).read_bytes()
    rng,files = np.random.default_rng(0),[]
    for k,n in enumerate([*rng.integers(1, len(raw)-20, 12),100,140]): files.append((f'cut{k}.dcm', raw[:n]))
    for k in range(12):
        b = bytearray(raw)
        for i in rng.integers(128, 900, 6): b[i] = rng.integers(256)
        files.append((f'odd{k}.dcm', bytes(b)))
    deep = Dataset()
    for _ in range(400):
        o = Dataset()
        o.SourceImageSequence = [deep]
        deep = o
    ds = dicom(scans(1))
    ds.SourceImageSequence = [deep]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(sys, 'setrecursionlimit', sys.setrecursionlimit)
        sys.setrecursionlimit(20_000)
        try: ds.save_as(tmp_path/'deep.dcm', enforce_file_format=True)
        finally: sys.setrecursionlimit(1000)
    for name,b in files: (tmp_path/name).write_bytes(b)
    declared = dict(Rows=65535, Columns=65535),dict(NumberOfFrames=10**9),dict(NumberOfFrames=9999),dict(SamplesPerPixel=2),dict(BitsAllocated=64)
    names = [write(tmp_path/f'declared{k}.dcm', scans(1), **o) for k,o in enumerate(declared)]
    (tmp_path/'text.dcm').write_text('<html>404</html>'*99)
    tracemalloc.start()
    t,n = time.time(),0
    for f in [*names, *(str(tmp_path/o) for o,_ in files), str(tmp_path/'deep.dcm'), str(tmp_path/'text.dcm')]:
        for p in frames_of(f)[-2:]:
            try: read_image(p)
            except DataError as e: n += str(e).startswith(p)
        file_facts(frames_of(f)[:1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n>=20 and peak<64e6 and time.time()-t<60, (n, peak)
    for f in names: refused(frames_of(f)[-1], '.')

def test_a_decoder_that_breaks_down_does_not_take_the_program_along(tmp_path):
    "A JPEG of 255 bits and a scan of 65,535 x 65,535 pixels end GDCM's process, or ask for gigabytes: told, and a sound file is read"
    photo,eye = str(tmp_path/'photo.dcm'),phantom_fundus(seed=3, size=64).image[None]
    def spoil(syntax, mark, more, by):
        raw = bytearray(Path(write(photo, eye, syntax=syntax)).read_bytes())
        at = raw.find(mark)+more
        raw[at:at+len(by)] = by
        Path(photo).write_bytes(raw)
    spoil(JPEGBaseline8Bit, b'\xff\xc0', 4, b'\xff')
    refused(photo, 'is damaged')
    spoil(JPEG2000Lossless, b'\xff\x4f\xff\x51', 8, 2*b'\0\0\xff\xff')
    refused(photo, 'is damaged')
    sound = write(photo, eye, syntax=RLELossless)
    assert (read_image(sound)==eye[0]).all()
    (lock,there),pid = hospital.unpackers[os.getpid()],os.getpid()
    assert not lock.locked() and there[0].pid!=pid
    there[0].kill() # as by the system, where memory is short
    there[0].wait()
    assert (read_image(sound)==eye[0]).all()

def test_a_decoder_that_does_not_end_is_ended(tmp_path, monkeypatch):
    photo = write(tmp_path/'photo.dcm', scans(1), syntax=RLELossless)
    read_image(photo)
    monkeypatch.setattr(hospital, 'patience', 0)
    monkeypatch.setattr(hospital, 'ask_unpacker', lambda p, *asked: json.loads(p.stdout.readline())) # it was asked nothing
    refused(photo, 'broke down over it')
    monkeypatch.undo()
    assert read_image(photo).shape==(96,128)

@pytest.mark.parametrize('tag', [b'\x08\0\x70\0LO', b'\x10\0\x20\0LO', b'\x10\0\x40\0CS'])
def test_a_header_with_a_damaged_tag_is_a_sentence_at_every_door(tmp_path, tag):
    "Manufacturer, patient or sex of a type that does not exist: not a patient of its own, and no traceback of a folder's table"
    good,bad = write(tmp_path/'good.dcm', scans(1)),tmp_path/'bad.dcm'
    bad.write_bytes(Path(good).read_bytes().replace(tag, tag[:4]+b'C('))
    refused(bad, 'is damaged, or DICOM that we cannot read')
    t = file_facts([str(bad),good])
    assert t.path.tolist()==[str(bad),good] and t.patient.isna().tolist()==[True,False]

def test_two_sexes_are_none(tmp_path): assert dicom_facts(write(tmp_path/'a.dcm', scans(1), PatientSex=['F','M']))['sex'] is None

def test_what_is_packed_as_a_whole_is_refused(tmp_path):
    from pydicom.uid import DeflatedExplicitVRLittleEndian
    ds = dicom(scans(1))
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(tmp_path/'a.dcm', enforce_file_format=True)
    refused(tmp_path/'a.dcm', 'may unpack to anything')

def test_without_the_packages(tmp_path, monkeypatch):
    v = write(tmp_path/'v.dcm', scans(2))
    (tmp_path/'a.vol').write_bytes(b'HSF-OCT-103')
    for k in ('pydicom','eyepy'): monkeypatch.setitem(sys.modules, k, None)
    refused(v, r'pip install "fundus_fastai\[dicom\]"')
    refused(tmp_path/'a.vol', r'pip install "fundus_fastai\[oct\]"')
    assert frames_of(v)==[v] and check_images([v]).problem.str.contains('pydicom is needed').all()

# --- folders, tables, splits

@pytest.fixture
def clinic(tmp_path):
    "Four patients, two of them in two volumes; one file without a suffix, one picture that is none of a hospital"
    for k,(label,who,side) in enumerate([('DME','A','L'), ('DME','A','R'), ('NORMAL','B','L'), ('NORMAL','C','R'), ('DME','D','L')]):
        (tmp_path/label).mkdir(exist_ok=True)
        write(tmp_path/label/(f'IM00{k}' if k==3 else f'eye{k}.dcm'), scans(3, label, 10*k), PatientID=who, Laterality=side)
    shutil.copy(tmp_path/'DME/eye0.dcm', tmp_path/'DICOMDIR')
    return tmp_path

def test_a_folder_of_volumes(clinic):
    df = read_folder(clinic)
    assert len(df)==15 and df.patient.nunique()==4 and set(df.eye)=={'L','R'} and (df.age==69.5).all() and set(df.sex)=={'female'}
    assert df.groupby('volume').frame.apply(list).map(lambda o: o==[1,2,3]).all() and df.label.value_counts()['DME']==9
    d = split_patients(df, .3, 0, seed=1)
    assert d.groupby('patient').split.nunique().max()==1
    assert not check_images(df.path).shape[0] and read_image(df.path[4]).shape==(96,128)

def test_a_volume_without_a_patient_is_its_own(tmp_path):
    for k in (1,2): (tmp_path/'DME').mkdir(exist_ok=True); write(tmp_path/f'DME/v{k}.dcm', scans(3), PatientID='')
    (tmp_path/'NORMAL').mkdir(); write(tmp_path/'NORMAL/v3.dcm', scans(2, 'NORMAL'), PatientID=' ')
    df = read_folder(tmp_path)
    assert df.groupby('volume').patient.nunique().eq(1).all() and df.patient.nunique()==3

def test_a_table_of_volumes(clinic, capsys):
    "A label of a file is one of each of its pictures; one frame may be named; patients come from the files unless the table tells them"
    pd.DataFrame(dict(file=['DME/eye0.dcm','NORMAL/IM003','DME/eye1.dcm#2'], label=['ill','well','ill'])).to_csv(clinic/'t.csv', index=False)
    df = read_csv(clinic/'t.csv')
    assert df.label.tolist()==['ill']*3+['well']*3+['ill'] and df.eye.tolist()==list('LLLRRRR') and df.frame.tolist()==[1,2,3,1,2,3,2]
    assert df.patient.nunique()==2 and df.patient[0]==df.patient[6]==patient_digest('A') and not df.attrs['alone']
    assert 'told by their files' in capsys.readouterr().err
    pd.DataFrame(dict(file=['DME/eye0.dcm','NORMAL/eye2.dcm'], label=['ill','well'], patient=['x','y'], age=[3,4])).to_csv(clinic/'u.csv', index=False)
    df = read_csv(clinic/'u.csv')
    assert df.patient.tolist()==['x']*3+['y']*3 and df.age.tolist()==[3]*3+[4]*3

def test_a_row_of_a_volume_and_one_of_its_pictures(clinic, capsys):
    "may not contradict; what is said twice is counted once"
    def table(*rows): (clinic/'t.csv').write_text('\n'.join(['file,label', *rows, 'NORMAL/eye2.dcm,well'])); return clinic/'t.csv'
    t = table('DME/eye0.dcm,ill', 'DME/eye0.dcm#2,well')
    with pytest.raises(DataError, match=r'different labels.* for 1 of 6 files.*eye0.dcm#2 is ill L .patient \w+. and well L'): read_csv(t)
    df = read_csv(t, skip_broken=True)
    assert len(df)==5 and [o[:2] for o in df.attrs['left_out']]==[(2,'DME/eye0.dcm'), (3,'DME/eye0.dcm#2')] and '2 of 7 pictures contradict' in capsys.readouterr().err
    assert len(read_csv(table('DME/eye0.dcm,ill', 'DME/eye0.dcm#2,ill')))==6 and '1 of 7 pictures repeat others' in capsys.readouterr().err

def test_what_files_tell_needs_no_column(clinic, capsys):
    "Sex, age and eye may be learned from a table that has none of them; a table of patients is told once"
    (clinic/'t.csv').write_text('file,label\nDME/eye0.dcm,ill\nNORMAL/IM003,well\n')
    for task,said in dict(age={69.5}, sex={'female'}, laterality={'left','right'}).items(): assert set(load_frame(task, str(clinic/'t.csv')).label)==said
    err = capsys.readouterr().err
    assert 'told by their files' in err and 'its own patient' not in err
    assert set(read_csv(clinic/'t.csv', label='age').label_csv)=={'ill','well'} and "can be used" in repr(check_data(clinic/'t.csv', 'age'))
    Image.fromarray(scans(1)[0]).save(clinic/'a.png')
    (clinic/'t.csv').write_text('file,label\nDME/eye0.dcm,ill\na.png,well\n')
    read_csv(clinic/'t.csv')
    assert 'each other image is taken as its own patient' in capsys.readouterr().err
    (clinic/'t.csv').write_text('file,label\na.png,well\n')
    with pytest.raises(DataError, match="unknown column 'age'.*`label=COL`"): load_frame('age', str(clinic/'t.csv'))

def test_frames_are_not_copies_of_each_other(clinic):
    d = digests(frames_of(clinic/'DME/eye0.dcm'))
    assert d.nunique()==3 and d.str.contains('#').all()
    a = audit(read_folder(clinic), seed=0)
    assert not len(a.exact_duplicates) and not a.leaky
    shutil.copy(clinic/'DME/eye0.dcm', clinic/'DME/again.dcm')
    assert len(audit(read_folder(clinic), seed=0).exact_duplicates)>=3

def test_walking_finds_them_and_counts_the_rest(clinic):
    (clinic/'x.fda').write_bytes(b'1')
    (clinic/'IM9').write_bytes(b'no DICOM')
    names = {os.path.basename(o) for o in image_files(clinic)}
    assert names=={'eye0.dcm','eye1.dcm','eye2.dcm','IM003','eye4.dcm'} and unread_files(clinic)=={'.fda':1, 'without a suffix':2}

# --- Heidelberg

@pytest.fixture
def heyex(tmp_path):
    pytest.importorskip('eyepy', reason="eyepy is not installed: pip install 'fundus_fastai[oct]'")
    if not HEYEX.is_dir(): pytest.skip("no Heidelberg fixtures: FUNDUS_TEST_DATA names their folder")
    shutil.copytree(HEYEX, tmp_path/'heyex')
    return tmp_path/'heyex'

def test_heidelberg_volumes(heyex):
    "10 B-scans of each; those of the XML are the pictures that lie beside it, and are not counted twice"
    vol,xml = (str(heyex/o) for o in ('heyex_vol/test_volume.vol','heyex_xml/test_volume/test_dummy.xml'))
    for f in (vol,xml):
        t = file_facts(frames_of(f))
        assert len(t)==10 and set(t.eye)=={'R'} and (t.age==0).all() and set(t.camera)=={'Heidelberg'} and t.patient.nunique()==1
        assert read_image(t.path[0]).shape==(40,50) and read_image(t.path[0]).dtype==np.uint8
    files = image_files(heyex)
    assert vol in files and xml in files and [o for o in files if os.path.basename(o).startswith('B')]==[str(heyex/'heyex_xml/test_volume/B11.tif')] # of no B-scan
    assert file_facts([xml+'#1']).patient[0]==patient_digest('Study-01') and 'Doe' not in file_facts(frames_of(xml)).to_csv()
    beside = [np.array(Image.open(o)) for o in sorted((heyex/'heyex_xml/test_volume').glob('B*.tif'))]
    assert any((read_image(xml+'#3')==o).all() for o in beside)

def test_damaged_heidelberg_files(heyex):
    vol,xml = heyex/'heyex_vol/test_volume.vol',heyex/'heyex_xml/test_volume/test_dummy.xml'
    raw = vol.read_bytes()
    for n in (20, 2000, len(raw)//2):
        vol.write_bytes(raw[:n])
        refused(vol, 'Heidelberg file that we cannot read')
    text = xml.read_text()
    xml.write_text(text.replace('<HEDX>', '<!DOCTYPE a [<!ENTITY b "bb">]><HEDX>'))
    refused(xml, 'entities, or files in other folders')
    xml.write_text(text.replace('B1.tif</ExamURL>', '../../../secret.tif</ExamURL>'))
    refused(xml, 'entities, or files in other folders')
    shutil.copy(xml.parent/'B2.tif', heyex.parent/'secret.tif')
    for tag in ('<ExamURL >../../../', '<ExamURL a="1">../../../', '<ExamURL>..&#47;..&#47;..&#47;', '<ExamURL>&#46;&#46;/../../', '<ExamURL>C:'):
        xml.write_text(re.sub('<ExamURL>[^<]*B1.tif', tag+'secret.tif', text))
        refused(xml, 'entities, or files in other folders')
    xml.write_text(text[:len(text)//2])
    refused(xml, 'Heidelberg file that we cannot read')
    (heyex/'a.e2e').write_bytes(b'CMDb'+bytes(3000))
    refused(heyex/'a.e2e', 'Heidelberg file that we cannot read|holds')

def test_a_heidelberg_xml_that_was_exported_again_is_read_again(heyex):
    xml = heyex/'heyex_xml/test_volume/test_dummy.xml'
    assert file_facts([f'{xml}#1']).eye[0]=='R'
    xml.write_text(xml.read_text().replace('<Laterality>R<', '<Laterality>L<'))
    assert file_facts([f'{xml}#1']).eye[0]=='L'

def test_a_heidelberg_file_of_two_gigabytes_is_not_opened(heyex):
    os.truncate(f := heyex/'heyex_vol/test_volume.vol', 2**31+1)
    refused(f, 'has more than 2 GB: export its volumes one by one')

def test_e2e_volumes_of_both_eyes_are_one_row_of_pictures(heyex, monkeypatch):
    "By a reader with eyepy's interface, for no whole file may be passed on"
    from types import SimpleNamespace as o
    import eyepy.io.he as he
    class Reader:
        def __init__(self, path): pass
        def __enter__(self): return self
        def __exit__(self, *_): pass
        def series(self, side, n): return o(n_bscans=n, laterality=lambda: side, get_volume=lambda: o(data=np.full((n,20,30), ord(side[-1]), np.uint8)))
        patients = property(lambda self: [o(id=7, studies={0:o(series={0:self.series('OD', 2), 1:self.series('OS', 3), 2:self.series('OS', 0)})})])
    monkeypatch.setattr(he, 'HeE2eReader', Reader)
    (heyex/'b.e2e').write_bytes(b'x')
    t = file_facts(frames_of(heyex/'b.e2e'))
    assert t.eye.tolist()==['R','R','L','L','L'] and t.patient.nunique()==1 and read_image(t.path[4])[0,0]==ord('S')

def test_a_table_may_name_scans_by_their_uid(tmp_path, capsys):
    "As archives do: labels.csv beside files whose names say nothing; patients and eyes are told by the files"
    rows = []
    for k in range(4):
        ds = dicom(scans(1, seed=k), PatientID=f'P{k//2}', Laterality='LR'[k%2])
        ds.save_as(tmp_path/(f'IM{k:04d}' if k<2 else f'i{k}.dcm'), enforce_file_format=True)
        rows.append((ds.SOPInstanceUID, 'DME' if k%2 else 'NORMAL'))
    pd.DataFrame(rows, columns=['SOPInstanceUID','label']).to_csv(tmp_path/'labels.csv', index=False)
    df = read_csv(tmp_path/'labels.csv')
    assert [Path(o).name for o in df.path]==['IM0000','IM0001','i2.dcm','i3.dcm'] and df.label.tolist()==['NORMAL','DME']*2
    assert df.eye.tolist()==['L','R']*2 and df.patient.nunique()==2
    pd.DataFrame([*rows[:3], ('1.2.3.4.5.6','DME')], columns=['SOPInstanceUID','label']).to_csv(tmp_path/'labels.csv', index=False)
    with pytest.raises(DataError, match='1 of 4 image files are not in its folder: 1.2.3.4.5.6'): read_csv(tmp_path/'labels.csv')
