"Reading pictures: every format and mode, every damage; and the walker of trees: what it passes over, and what not"
import io, os, struct, zlib
import cv2, numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image
from attack.images import attack
from fundus_fastai.core import DataError
from fundus_fastai.image.read import (check_images, check_readable, formats, image_files, load_pixels, max_scans, open_image,
                                      plain_mode, read_image, unread_files, walk_tree)

pytestmark = pytest.mark.newest # Pillow's newest release, which the others of the lane do not ask
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
    'deep.ppm':      (b'P6\n20 20\n4095\n'+bytes(2400), 'intensity window'),
    'deep.tiff':     (encode(deep, 'TIFF'), 'intensity window'),
    'deep_rgb.png':  (png(20,20,16,2,(b'\0'+bytes(120))*20), 'intensity window'),
    'deep_rgba.png': (png(20,20,16,6,(b'\0'+bytes(160))*20), 'intensity window'),
    'int.tiff':      (encode(gray.astype('int32'), 'TIFF'), 'intensity window'),
    'float.tiff':    (encode(gray.astype('float32'), 'TIFF'), 'intensity window'),
    'cmyk.jpeg':     (encode(rgb, 'JPEG', 'CMYK'), 'convert it to RGB'),
    'cmyk.tiff':     (encode(rgb, 'TIFF', 'CMYK'), 'convert it to RGB'),
    'lab.tiff':      (encode(rgb, 'TIFF', 'LAB'), 'convert it to RGB'),
    'pages.tiff':    (encode(gray, 'TIFF', save_all=True, append_images=[Image.fromarray(gray)]), '2 pages'),
    **{f'moves.{k.lower()}':(encode(gray, k, save_all=True, append_images=[Image.fromarray(255-gray)]), 'is animated')
       for k in ('GIF','WEBP','PNG')},
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

@pytest.mark.parametrize('no_path,kind', [(np.zeros((30,30), np.uint8),'ndarray'), (None,'NoneType'), (3,'int'), (io.BytesIO(b'x'),'BytesIO')])
def test_what_is_no_path_is_told_by_its_type(no_path, kind):
    with pytest.raises(DataError, match=f'^`path` of type {kind} is not the path of a file$'): read_image(no_path)

@pytest.mark.parametrize('fmt', ['PNG','TIFF','BMP','WEBP','GIF'])
def test_lossless_formats(tmp_path, fmt):
    (tmp_path/'x').write_bytes(encode(gray, fmt, lossless=True))
    a = read_image(tmp_path/'x')
    assert a.dtype==np.uint8 and (a if a.ndim==2 else a[...,0]).shape==gray.shape
    assert np.array_equal(a if a.ndim==2 else a[...,0], gray)

@pytest.mark.parametrize('mode,ndim', [('1',2),('L',2),('LA',2),('P',3),('RGB',3),('RGBA',3)])
def test_modes(tmp_path, mode, ndim):
    (tmp_path/'x.png').write_bytes(encode(rgb, 'PNG', mode))
    a = read_image(tmp_path/'x.png')
    assert a.ndim==ndim and a.dtype==np.uint8
    assert np.array_equal(a, np.asarray(Image.fromarray(rgb).convert(mode).convert('L' if ndim==2 else 'RGB')))
    assert read_image(tmp_path/'x.png', gray=True).shape==gray.shape

def test_luma_and_chroma_are_brought_to_colors():
    im = Image.fromarray(rgb).convert('YCbCr')
    assert np.array_equal(np.asarray(plain_mode(im)), np.asarray(im.convert('RGB')))

def test_missing_image_folder_and_orientation(tmp_path):
    with pytest.raises(DataError, match='no.png does not exist'): read_image(tmp_path/'no.png')
    with pytest.raises(DataError, match='is a folder'): read_image(tmp_path)
    exif = Image.Exif(); exif[0x0112] = 3
    Image.fromarray(gray).save(tmp_path/'turned.png', exif=exif)
    assert np.array_equal(read_image(tmp_path/'turned.png'), gray[::-1,::-1])

def test_pillow_limit_is_left_alone():
    assert Image.MAX_IMAGE_PIXELS == int(1024*1024*1024 // 4 // 3)

# --- what Pillow would let pass

def drawn(mode, h=41, w=33, interlace=0, rows=None, **kw):
    "A PNG of `mode` of which only `rows` rows were compressed, properly ended"
    im = Image.fromarray(rng.integers(10, 250, (h,w,3), dtype=np.uint8)).convert(mode)
    if interlace: return interlaced(im, rows)
    depth,color = {'1':(1,0), 'L':(8,0), 'LA':(8,4), 'RGB':(8,2), 'RGBA':(8,6)}[mode]
    line = (w+7)//8 if mode=='1' else w*len(im.getbands())
    data = im.tobytes()
    return png(w, h, depth, color, b''.join(b'\0'+data[i*line:(i+1)*line] for i in range(h if rows is None else rows)))

def interlaced(im, passes=None):
    "A gray Adam7 PNG of which only the first `passes` were compressed"
    a,out = np.asarray(im),b''
    for y,x,dy,dx in ((0,0,8,8),(0,4,8,8),(4,0,8,4),(0,2,4,4),(2,0,4,2),(0,1,2,2),(1,0,2,1))[:passes]:
        out += b''.join(b'\0'+r.tobytes() for r in a[y::dy,x::dx])
    b = bytearray(png(a.shape[1], a.shape[0], 8, 0, out))
    b[28] = 1 # interlaced
    b[29:33] = struct.pack('>I', zlib.crc32(bytes(b[12:29])))
    return bytes(b)

@pytest.mark.parametrize('mode', ['1','L','LA','RGB','RGBA'])
def test_a_png_that_ends_early_but_properly(tmp_path, mode):
    (tmp_path/'x.png').write_bytes(drawn(mode))
    read_image(tmp_path/'x.png')
    for rows in (1, 20, 40):
        (tmp_path/'x.png').write_bytes(drawn(mode, rows=rows))
        with pytest.raises(DataError, match='x.png breaks off.*last rows are missing'): read_image(tmp_path/'x.png')
        assert 'last rows' in check_images([tmp_path/'x.png']).problem[0]

@pytest.mark.parametrize('h', [40,41])
def test_an_interlaced_png_that_ends_early(tmp_path, h):
    f = tmp_path/'x.png'
    f.write_bytes(drawn('L', h, interlace=1))
    assert read_image(f).shape==(h,33)
    for passes in (1,3,6):
        f.write_bytes(drawn('L', h, interlace=1, rows=passes))
        with pytest.raises(DataError, match='last rows are missing'): read_image(f)

@pytest.mark.parametrize('level', [0,2,253,255])
def test_a_png_with_a_plain_last_row_is_whole(tmp_path, level):
    for mode in ('L','RGB','RGBA','P'):
        im = Image.fromarray(rgb).convert(mode)
        im.paste(level if mode in 'LP' else (level,)*len(im.getbands()), (0,30,64,48))
        if mode=='RGBA': im.putalpha(255)
        im.save(tmp_path/'x.png')
        assert np.array_equal(read_image(tmp_path/'x.png'), np.asarray(im.convert('L' if mode=='L' else 'RGB')))

def test_what_cannot_be_seen_is_refused_and_the_rest_lies_on_black(tmp_path):
    hidden,half = (np.dstack([rgb, np.full_like(gray, a)]) for a in (0,255))
    half[:24,:,3] = 0
    for name,a in {'hidden':hidden, 'half':half}.items(): Image.fromarray(a).save(tmp_path/f'{name}.png')
    Image.fromarray(np.full_like(gray, 9)).save(tmp_path/'key.png', transparency=9)
    for o in ('hidden','key'):
        with pytest.raises(DataError, match=f'{o}.png is transparent, nothing of it can be seen'): read_image(tmp_path/f'{o}.png')
    a = read_image(tmp_path/'half.png')
    assert not a[:24].any() and np.array_equal(a[24:], rgb[24:])
    seen = []
    check_images([tmp_path/'half.png'], look=lambda im,path: seen.append(im))
    assert np.array_equal(seen[0], a) # the check looks at what the reader reads
    key = gray.copy(); key[:24] = 200
    Image.fromarray(key).save(tmp_path/'part.png', transparency=200)
    a = read_image(tmp_path/'part.png')
    assert a.shape==gray.shape and not a[:24].any() and np.array_equal(a[24:], np.where(gray[24:]==200, 0, gray[24:]))
    Image.fromarray(rgb).save(tmp_path/'one.png', transparency=tuple(map(int, rgb[0,0]))) # a color that is to be seen through
    a = read_image(tmp_path/'one.png')
    assert not a[0,0].any() and np.array_equal(a[1:], rgb[1:])

def test_a_jpeg_told_too_often(tmp_path):
    b = encode(rgb, 'JPEG', progressive=True)
    i = b.rfind(b'\xff\xda')
    for n,f in ((10,tmp_path/'ten.jpg'), (3000,tmp_path/'many.jpg')):
        f.write_bytes(b[:i]+b[i:-2]*(n-b.count(b'\xff\xda')+1)+b[-2:])
    assert read_image(tmp_path/'ten.jpg').shape==rgb.shape and max_scans>=50
    with pytest.raises(DataError, match='many.jpg is a progressive JPEG of 3000 scans.*save it anew'): read_image(tmp_path/'many.jpg')

def test_a_tiff_of_pages_without_end(tmp_path):
    (tmp_path/'x.tif').write_bytes(encode(gray, 'TIFF', save_all=True, append_images=[Image.fromarray(gray)]*150))
    with pytest.raises(DataError, match='more than 99 pages'): read_image(tmp_path/'x.tif')

def test_a_tiff_without_dimensions_is_named(tmp_path):
    "Its tag of the width is another: Pillow raises `TypeError: Missing dimensions`"
    b = bytearray(encode(gray, 'TIFF'))
    at = struct.unpack('<I', b[4:8])[0]+2 # the first tag
    tag = next(o for o in range(at, at+200, 12) if b[o:o+2]==struct.pack('<H', 256))
    for value in (254, 65000, 257):
        b[tag:tag+2] = struct.pack('<H', value)
        (tmp_path/'x.tif').write_bytes(b)
        with pytest.raises(DataError, match='x.tif is '): read_image(tmp_path/'x.tif')
        assert len(check_images([tmp_path/'x.tif']))==1

@pytest.mark.parametrize('fmt,names', {'JPEG':'jfif jpe', 'PPM':'ppm pgm', 'JPEG2000':'jp2 j2k', 'AVIF':'avif'}.items())
def test_the_field_s_other_suffixes(tmp_path, fmt, names):
    if fmt not in formats: pytest.skip(f'this Pillow reads no {fmt}')
    for o in names.split(): (tmp_path/f'x.{o}').write_bytes(encode(gray if o=='pgm' else rgb, fmt))
    assert [os.path.splitext(o)[1][1:] for o in image_files(tmp_path)]==sorted(names.split())
    for o in image_files(tmp_path): assert read_image(o).shape[:2]==gray.shape
    assert not len(check_images(image_files(tmp_path)))

def test_a_jpeg_2000_of_sixteen_bits_in_color_is_refused(tmp_path):
    "Pillow brings it down to eight without a word, gray ones aside"
    if 'JPEG2000' not in formats: pytest.skip('this Pillow reads no JPEG 2000')
    for name,a in dict(gray=gray, rgb=rgb).items():
        for bits in (8,16): cv2.imwrite(str(tmp_path/f'{name}{bits}.jp2'), a.astype(f'uint{bits}')*(1 if bits==8 else 257))
        assert read_image(tmp_path/f'{name}8.jp2').shape==a.shape
        with pytest.raises(DataError, match=f'{name}16.jp2 has more than 8 bits a channel'): read_image(tmp_path/f'{name}16.jp2')
        for bits in (8,16): # without the box around it, as archives keep it
            b = (tmp_path/f'{name}{bits}.jp2').read_bytes()
            (tmp_path/f'{name}{bits}.j2k').write_bytes(b[b.find(b'\xff\x4f\xff\x51'):])
        assert read_image(tmp_path/f'{name}8.j2k').shape==a.shape
        with pytest.raises(DataError, match='more than 8 bits a channel'): read_image(tmp_path/f'{name}16.j2k')

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

@pytest.mark.filterwarnings('ignore')
def test_a_sample_of_the_attack(tmp_path):
    "Both doors say the same of damaged files, in a line that names them, soon; `tests/attack/images.py` tries thousands"
    found = attack(7, 120, tmp_path)
    assert found.total()==120 and {fmt.upper() for fmt,_ in found}=={*formats} and not list(tmp_path.iterdir())

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

RESULTS = {'lesions/detections.csv':'path,x,y,score,type,radius', 'vessels/features.csv.part':'path,density,dimension', 'biomarkers/features.csv':'path,distance,angle,area',
           'm/maps.csv':'path,answer,map,overlay,method', 'atlas/clusters.csv':'higher in,p,area', 'trial/trial.csv':'class,method,measure,n'}

@pytest.mark.parametrize('table', RESULTS)
def test_our_own_pictures_are_no_eyes(tree, capsys, table):
    "`fundus lesions .`, called twice, counted the lesions of its own overlays; somebody else's table hides nothing, nor ours what lies below"
    before,folder = names(tree),table.split('/')[0]
    (tree/folder/'eyes').mkdir(parents=True)
    for o in ('x.png','eyes/y.jpg'): (tree/folder/o).touch()
    (tree/table).write_text('path,grade\n')
    assert len(names(tree))==len(before)+2
    (tree/table).write_text(RESULTS[table]+'\n')
    capsys.readouterr()
    assert names(tree)==sorted([*before, f'{folder}/eyes/y.jpg']) and f'passed over: {folder}\n' in capsys.readouterr().err
    assert len(image_files(tree/folder))==2, "whoever names it means it"

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

def test_linked_folders_are_followed_once_and_loops_end(tree, tmp_path_factory):
    disk = tmp_path_factory.mktemp('disk')
    for o in ('x/6.png','x/y/7.png'): (disk/o).parent.mkdir(parents=True, exist_ok=True); (disk/o).touch()
    (disk/'x/up').symlink_to(disk)
    for a,b in {'ill':disk/'x', 'ill again':disk/'x', 'whole':tree, 'b/loop':tree/'b', 'part':disk/'x/y', 'root':'/'}.items(): (tree/a).symlink_to(b)
    (tree/'lost').symlink_to(tree/'nowhere')
    assert names(tree)==['a.tif','b/1.jpeg','b/2.PNG','b/deep er/3.webp','ill/6.png','ill/y/7.png']
    again = {os.path.relpath(o, tree) for o in walk_tree(tree)[2]}
    assert again=={'ill again','whole','b/loop','part','root','ill/up'}
    assert [os.path.relpath(o, tree/'ill') for o in image_files(tree/'ill')]==['6.png','y/7.png'] # the root may be a link

def test_the_system_s_own_folders_are_passed_over(tree):
    for o in ('@eaDir/b/1.jpeg','$RECYCLE.BIN/1.png'): (tree/o).parent.mkdir(parents=True, exist_ok=True); (tree/o).touch()
    assert len(names(tree))==4

def test_what_is_not_read_is_counted_by_suffix(tree):
    assert unread_files(tree)=={}
    for o in ('b/1.heic','b/2.HEIC','c/3.xcf','4','@eaDir/5.heic','._6.heic','7.csv'): (tree/o).parent.mkdir(exist_ok=True); (tree/o).touch()
    assert unread_files(tree)=={'.heic':2, '.xcf':1, 'without a suffix':1}

def test_a_picture_that_was_decoded_for_its_notes_stays_whole(tmp_path):
    a = np.random.default_rng(0).integers(0, 255, (60,80,3), 'uint8')
    a[-3:] = 0
    Image.fromarray(a).save(tmp_path/'a.png')
    with open_image(tmp_path/'a.png') as im:
        im.getexif() # decodes a PNG
        assert (np.array(load_pixels(im))==a).all()
