"Reading pictures: every format and mode, every damage; and the walker of trees: what it passes over, and what not"
import io, os, struct, zlib
import numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from fundus_fastai.core import DataError
from fundus_fastai.image.read import check_images, check_readable, image_files, read_image

rng  = np.random.default_rng(0)
gray = rng.integers(0, 256, (48,64), dtype=np.uint8)
rgb  = rng.integers(0, 256, (48,64,3), dtype=np.uint8)

def png(w, h, depth=8, color=2, data=b''):
    "A PNG whose header says what we like"
    chunk = lambda k,b: struct.pack('>I', len(b))+k+b+struct.pack('>I', zlib.crc32(k+b))
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, color, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + chunk(b'IDAT', zlib.compress(data)) + chunk(b'IEND', b'')

def encode(a, fmt, mode=None, **kw):
    im = Image.fromarray(a); b = io.BytesIO()
    (im.convert(mode) if mode else im).save(b, fmt, **kw)
    return b.getvalue()

deep = gray.astype('uint16')*200
BAD = {
    'empty.png':     (b'', 'empty'),
    'text.jpeg':     (b'<html>404</html>', 'not an image'),
    'print.eps':     (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n', 'not an image'),
    'one.png':       (png(1,1,data=bytes(4)), '1x1 pixels'),
    'thin.png':      (encode(gray[:15], 'PNG'), '64x15 pixels'),
    'bomb.png':      (png(30000,30000), '64 megapixels'),
    'small_bomb.png':(png(8001,8000), '64 megapixels'),
    'deep.png':      (encode(deep, 'PNG'), 'intensity window'),
    'deep.tiff':     (encode(deep, 'TIFF'), 'intensity window'),
    'deep_rgb.png':  (png(20,20,16,2,(b'\0'+bytes(120))*20), 'intensity window'),
    'deep_rgba.png': (png(20,20,16,6,(b'\0'+bytes(160))*20), 'intensity window'),
    'int.tiff':      (encode(gray.astype('int32'), 'TIFF'), 'intensity window'),
    'float.tiff':    (encode(gray.astype('float32'), 'TIFF'), 'intensity window'),
    'cmyk.jpeg':     (encode(rgb, 'JPEG', 'CMYK'), 'convert it to RGB'),
    'cmyk.tiff':     (encode(rgb, 'TIFF', 'CMYK'), 'convert it to RGB'),
    'lab.tiff':      (encode(rgb, 'TIFF', 'LAB'), 'convert it to RGB'),
    'pages.tiff':    (encode(gray, 'TIFF', save_all=True, append_images=[Image.fromarray(gray)]), '2 pages'),
    'cut.jpeg':      (encode(gray, 'JPEG')[:-200], 'fetch or copy it again'),
    'cut.png':       (encode(rgb, 'PNG')[:-2000], 'fetch or copy it again'),
    'cut.tiff':      (encode(rgb, 'TIFF')[:-2000], 'again'),
    'cut.bmp':       (encode(rgb, 'BMP')[:-2000], 'again'),
}

@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
@pytest.mark.parametrize('name', BAD)
def test_bad_image(tmp_path, name):
    content,why = BAD[name]
    (tmp_path/name).write_bytes(content)
    with pytest.raises(DataError) as e: read_image(tmp_path/name)
    assert str(tmp_path/name) in str(e.value) and why in str(e.value) and '\n' not in str(e.value)
    bad = check_images([tmp_path/name])
    assert len(bad)==1 and why in bad.problem[0]

@pytest.mark.parametrize('fmt', ['PNG','TIFF','BMP','WEBP','GIF'])
def test_lossless_formats(tmp_path, fmt):
    (tmp_path/'x').write_bytes(encode(gray, fmt, lossless=True))
    a = read_image(tmp_path/'x')
    assert a.dtype==np.uint8 and (a if a.ndim==2 else a[...,0]).shape==gray.shape
    assert np.array_equal(a if a.ndim==2 else a[...,0], gray)

@pytest.mark.parametrize('mode,ndim', [('1',2),('L',2),('LA',2),('P',3),('RGB',3),('RGBA',3)])
def test_modes(tmp_path, mode, ndim):
    (tmp_path/'x.png').write_bytes(encode(rgb, 'PNG', mode))
    assert read_image(tmp_path/'x.png').ndim==ndim
    assert read_image(tmp_path/'x.png', gray=True).shape==gray.shape

def test_missing_image_folder_and_orientation(tmp_path):
    with pytest.raises(DataError, match='no.png does not exist'): read_image(tmp_path/'no.png')
    with pytest.raises(DataError, match='is a folder'): read_image(tmp_path)
    exif = Image.Exif(); exif[0x0112] = 3
    Image.fromarray(gray).save(tmp_path/'turned.png', exif=exif)
    assert np.array_equal(read_image(tmp_path/'turned.png'), gray[::-1,::-1])

def test_pillow_limit_is_left_alone():
    assert Image.MAX_IMAGE_PIXELS == int(1024*1024*1024 // 4 // 3)

@pytest.mark.filterwarnings('ignore')
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_never_escape(tmp_path, data):
    "Whatever is done to a file, the answer is an array or a DataError"
    raw = bytearray(encode(rgb, data.draw(st.sampled_from(['PNG','JPEG','TIFF','BMP','GIF','WEBP']))))
    for _ in range(data.draw(st.integers(1,8))): raw[data.draw(st.integers(0,len(raw)-1))] = data.draw(st.integers(0,
        255))
    (tmp_path/'x').write_bytes(raw[:data.draw(st.integers(1,len(raw)))])
    try: assert read_image(tmp_path/'x').dtype==np.uint8
    except DataError: pass

def test_demand_images_lists_and_counts(tmp_path):
    paths = [tmp_path/f'{i}.png' for i in range(9)]
    for p in paths[:2]: p.write_bytes(encode(gray, 'PNG'))
    for p in paths[2:]: p.write_bytes(b'')
    with pytest.raises(DataError, match='7 of 9 images') as e: check_readable(pd.DataFrame({'path':paths}))
    assert str(e.value).count('is empty')==5
    assert len(check_readable(pd.DataFrame({'path':paths[:2]})))==2

# --- a folder of pictures

@pytest.fixture
def tree(tmp_path):
    for o in ('b/2.PNG','b/1.jpeg','b/deep er/3.webp','a.tif','notes.txt','.hidden.png','b/._1.jpeg','.ipynb_checkpoints/a.tif',
              '__MACOSX/b/._1.jpeg','b/__MACOSX/4.png','.git/5.png'):
        (tmp_path/o).parent.mkdir(parents=True, exist_ok=True); (tmp_path/o).touch()
    return tmp_path

def names(tree, **kwargs): return [os.path.relpath(o, tree) for o in image_files(tree, **kwargs)]

def test_hidden_files_and_folders_are_passed_over(tree):
    assert names(tree)==['a.tif','b/1.jpeg','b/2.PNG','b/deep er/3.webp']
    assert names(tree, skip=['deep er'])==['a.tif','b/1.jpeg','b/2.PNG']
    assert image_files(str(tree))==image_files(tree) and all(type(o) is str for o in image_files(tree))

def test_a_folder_that_may_not_be_read_is_an_error(tree, monkeypatch):
    real = os.scandir
    def closed(p):
        if str(p).endswith('b'): raise PermissionError(13, 'Permission denied', str(p))
        return real(p)
    monkeypatch.setattr(os, 'scandir', closed)
    with pytest.raises(DataError, match=r'/b cannot be read \(Permission denied\): allow it, or leave it out'): image_files(tree)

def test_no_folder(tree):
    for o in ('nowhere','a.tif'):
        with pytest.raises(DataError, match=f'{o} is not a folder'): image_files(tree/o)
