"Finding the eye, the crop, the masked local average and recipes: what the notebook cannot say"
import copy, json, multiprocessing, pickle
import cv2, numpy as np, pytest
from hypothesis import assume, given, settings, strategies as st
from fundus_fastai.core import DataError, EyeError
from fundus_fastai.image import recipe as P
from fundus_fastai.image.recipe import (Recipe, as_recipe, circle_crop, even_contrast, field_mask, field_of_view,
    field_remark, graham, local_average, quality, recipe_steps, recipes, saturation_quality, vessel_quality)

def disc(h=300, w=400, cx=200., cy=150., r=130., light=160, aspect=1., bars=0., notch=None, noise=1., seed=0,
         gray=False):
    "A vignetted disc with a dark spot and a bright one; `bars` of its height cut away above and below"
    rng = np.random.default_rng(seed)
    y,x = np.mgrid[:h,:w]
    u,v = (x-cx)/r,(y-cy)/r/aspect
    d = np.hypot(u,v)
    a = light*(1-.5*d*d)-.3*light*np.exp(-8*(u*u+v*v))+.3*light*np.exp(-60*((u-.5)**2+v*v))
    a = a*((d<=1)&(np.abs(v)<=1-bars))
    if notch is not None: a[np.hypot(u-np.cos(notch), v-np.sin(notch))<.08] = light*.6
    rgb = a[...,None]*np.array([1,.55,.25])+rng.normal(0, noise, (h,w,3))
    rgb = rgb.clip(0,255).astype(np.uint8)
    return np.ascontiguousarray(rgb[...,0]) if gray else rgb

# --- the field

@pytest.mark.parametrize('cx,cy', [(200,150), (190.5,160), (212,141.5)])
def test_the_field_lies_in_its_crop_where_its_pixels_do(cx, cy):
    "By their middle, at full size and at half of it"
    im = disc(cx=cx, cy=cy, r=110, noise=0)
    f = field_of_view(im)
    for size in (0,110):
        a,g = P._cropped(im, f, size)
        y,x = np.nonzero(a[...,0]>20)
        assert abs(g.cx-x.mean())<=.5 and abs(g.cy-y.mean())<=.5 and abs(g.r/(110*size/220 if size else 110)-1)<.02

def test_where_no_eye_is_found_no_quality_is_good():
    for im in (np.zeros((200,240,3), np.uint8), np.zeros((200,240), np.uint8)):
        assert not field_of_view(im).found and vessel_quality(im)==P.Quality(0, False)

@settings(max_examples=150, deadline=None, derandomize=True)
@given(cx=st.floats(.35,.65), cy=st.floats(.35,.65), r=st.floats(.28,.6), light=st.integers(30,230),
       bars=st.floats(0,.3), notch=st.none()|st.floats(0,6.28),
       portrait=st.booleans(), gray=st.booleans(), size=st.sampled_from([150,300,620]))
def test_field_is_found(cx, cy, r, light, bars, notch, portrait, gray, size):
    "Off center, clipped by frame or bars, notched, dark, gray, portrait: center within 2 %, radius within 3 %"
    h,w = (int(size*1.3),size) if portrait else (size,int(size*1.3))
    x,y,R = cx*w,cy*h,r*size
    shown = np.linspace(0, 2*np.pi, 720, endpoint=False)
    px,py = x+R*np.cos(shown),y+R*np.sin(shown)
    arc = (px>3)&(px<w-4)&(py>3)&(py<h-4)&(np.abs(np.sin(shown))<1-bars)
    assume(arc.mean()>.35) # less of a circle than a third of its arc is no fair question
    f = field_of_view(disc(h, w, x, y, R, light, bars=bars, notch=notch, gray=gray))
    assert f.found
    assert abs(f.cx-x)<.02*2*R and abs(f.cy-y)<.02*2*R and abs(f.r-R)<.03*R, (f,x,y,R)
    if arc.mean()>.5: assert abs(f.aspect-1)<.04

@settings(max_examples=40, deadline=None, derandomize=True)
@given(aspect=st.floats(.72,1.4), r=st.floats(.25,.34))
def test_stretched_field_is_found(aspect, r):
    f = field_of_view(disc(400, 400, 200, 200, r*400, aspect=aspect))
    assert abs(f.aspect-aspect)<.06 and abs(f.r-r*400)<.03*r*400

@settings(max_examples=60, deadline=None, derandomize=True)
@given(h=st.integers(1,40), w=st.integers(1,40), seed=st.integers(0,99), gray=st.booleans())
def test_anything_gives_a_field_and_a_square(h, w, seed, gray):
    im = np.random.default_rng(seed).integers(0, 256, (h,w) if gray else (h,w,3), dtype=np.uint8)
    f = field_of_view(im)
    x0,y0,x1,y1 = f.box
    assert 0<=x0<x1<=w and 0<=y0<y1<=h and field_mask(f).shape==(h,w)
    assert circle_crop(im, 32).shape[:2]==(32,32)
    for r in recipes.values(): assert r(im, 24).shape[:2]==(24,24)

@pytest.mark.parametrize('light', [0, 3, 8])
def test_near_black_is_not_found(light): assert not field_of_view(disc(light=light)).found

def test_a_reflex_in_the_dark_is_no_eye():
    im = disc(light=5); im[100:108,200:208] = 250
    assert not field_of_view(im).found

def test_blank_pages_are_not_found():
    for v in (0, 128, 255): assert not field_of_view(np.full((200,300,3), v, np.uint8)).found
    assert field_remark(disc()) is None and 'no visible field' in field_remark(disc(light=5))

@pytest.mark.parametrize('gray', [True, False])
@pytest.mark.parametrize('level', [255, 200, 128, 60])
@pytest.mark.parametrize('width', [1, 4, 10, 30])
def test_a_light_frame_hides_no_field(width, level, gray):
    "As in a screenshot or the scan of a print; also on one side alone, and after JPEG"
    im = disc(h=620, w=700, cx=350, cy=310, r=290, bars=.1, gray=gray)
    bare = field_of_view(im)
    for t,l in ((width,width), (0,width), (width//2,width)):
        framed = cv2.copyMakeBorder(im, t, width, l, width, cv2.BORDER_CONSTANT, value=(level,)*3)
        for o in (framed, cv2.imdecode(cv2.imencode('.jpg', framed)[1], -1)):
            f = field_of_view(o)
            assert f.shape==o.shape[:2] and f.fit>.5
            assert abs(f.cx-l-bare.cx)<4 and abs(f.cy-t-bare.cy)<4 and abs(f.r-bare.r)<4, (f,bare)
    cut = im[60:-60] # clipped by the frame itself: black takes the place of what is missing
    framed = cv2.copyMakeBorder(cut, width, width, width, width, cv2.BORDER_CONSTANT, value=(level,)*3)
    crop,bare = circle_crop(framed, 200),circle_crop(cut, 200)
    assert not crop[[0,-1]].any() and np.abs(crop[30:-30]-bare[30:-30].astype(float)).mean()<6

def test_what_is_no_frame_stays():
    "An eye alone, on paper, and without its rim; and a frame round nothing"
    im = disc()
    paper = np.where(field_mask(field_of_view(im))[...,None], im, 255).astype(np.uint8)
    for o in (im, paper, im[80:220,120:280]): assert P._unframed(o) is None and field_of_view(o).inner is None
    blank = cv2.copyMakeBorder(np.zeros((200,300,3), np.uint8), 9, 9, 9, 9, cv2.BORDER_CONSTANT, value=(255,)*3)
    assert not field_of_view(blank).found

def test_bars_inside_the_frame_are_not_field():
    f = field_of_view(disc(bars=.25))
    assert f.aspect==1 and abs(f.r-130)<3
    assert abs(f.box[1]-(150-.75*130))<4 and abs(f.box[3]-(150+.75*130))<4
    assert not field_mask(f)[:int(150-.75*130)-5].any()

def test_a_dark_half_is_still_field():
    "Light from one side only: the circle is kept, and the dark half belongs to the crop"
    im = (disc()*np.linspace(0, 2, 400).clip(.03,1)[None,:,None]**3).astype(np.uint8)
    f = field_of_view(im)
    assert abs(f.cx-200)<6 and abs(f.r-130)<6 and f.box[0]<90

def test_crop_keeps_the_scale_of_clipped_eyes():
    "The bright spot stands at the same place of the crop whether the eye is clipped or whole"
    def spot(im):
        soft = cv2.GaussianBlur(circle_crop(im, 200)[...,0], (0,0), 4)
        return np.array(np.unravel_index(soft.argmax(), soft.shape))
    whole = spot(disc(noise=0))
    others = [disc(noise=0, bars=.3), disc(noise=0, aspect=.8), disc(noise=0)[40:-40],
              disc(500, 700, 300, 200, 180, noise=0)]
    for o in others: assert np.abs(spot(o)-whole).max()<=4

def test_crop_does_not_touch_its_input():
    im = disc(); before = im.copy()
    for r in recipes.values(): r(im)
    for f in (local_average, graham, quality, even_contrast): f(im)
    assert (im==before).all()

def test_result_is_writable_and_contiguous():
    for r in recipes.values():
        out = r(disc(), 64)
        assert out.flags.c_contiguous and out.flags.writeable

# --- local average

def slow(im, f, sigma, share, gain=4):
    m = field_mask(f, min(share,.98)).astype(np.float32)
    m3 = m if im.ndim==2 else m[...,None]
    a,b = (cv2.GaussianBlur(o, (0,0), sigma, borderType=cv2.BORDER_CONSTANT) for o in (im*m3, m))
    out = (gain*(im-a/np.maximum(b if im.ndim==2 else b[...,None], 1e-3))+128).clip(0,255)
    out[~field_mask(f, share)] = 128
    return out

@settings(max_examples=40, deadline=None, derandomize=True)
@given(size=st.integers(64,560), sigma=st.floats(4,40), noise=st.floats(0,12), light=st.integers(20,250),
       gray=st.booleans())
def test_fast_local_average_is_the_slow_one(size, sigma, noise, light, gray):
    im = disc(size, size, size/2, size/2, size*.47, light, noise=noise, gray=gray); f = field_of_view(im)
    e = np.abs(local_average(im, sigma, field=f)-slow(im, f, sigma*size/512, .98))
    assert e.mean()<1, e.mean()

def test_no_ring_at_the_edge():
    "Beside a flat eye the naive blur leaves a ring, the masked one nothing"
    im = disc(512, 512, 256, 256, 240, noise=0); m = field_mask(im, .97)
    im[m] = 120; im[~field_mask(im)] = 0
    naive = cv2.addWeighted(im, 4, cv2.GaussianBlur(im, (0,0), 15), -4, 128)
    rim = m & ~field_mask(im, .92)
    assert naive[rim].mean()>180 and abs(local_average(im, share=.97)[rim].mean()-128)<8

def test_local_average_does_not_see_the_light():
    "A lamp half as bright again changes differences by half, and not the mean"
    a,b = (local_average(disc(512, 512, 256, 256, 240, o, noise=0)).astype(float) for o in (100,150))
    m = field_mask(disc(512, 512, 256, 256, 240), .9)
    assert abs(a[m].mean()-b[m].mean())<3

def test_threads_agree():
    "Scratch memory belongs to a thread"
    from concurrent.futures import ThreadPoolExecutor
    ims = [disc(256, 256, 128, 128, 110+k, seed=k) for k in range(8)]
    want = [local_average(o, 8) for o in ims]
    with ThreadPoolExecutor(4) as pool: got = list(pool.map(lambda o: local_average(o, 8), ims*8))
    assert all((a==b).all() for a,b in zip(want*8, got))

# --- input

BAD = {'float':np.zeros((9,9,3)), 'uint16':np.zeros((9,9,3), np.uint16), 'alpha':np.zeros((9,9,4), np.uint8),
       'flat':np.zeros(9, np.uint8), 'empty':np.zeros((0,5,3), np.uint8)}

@pytest.mark.parametrize('f', [field_of_view, quality, *recipe_steps.values(), Recipe.parse('crop')])
@pytest.mark.parametrize('bad', BAD.values(), ids=BAD)
def test_other_arrays_are_refused(f, bad):
    with pytest.raises(DataError, match='the picture has (type|shape)'): f(bad)

# --- recipes

STEPS = {k:P._params(k)[0] for k in recipe_steps}

def values(k, default):
    if k in P._words: return st.sampled_from(P._words[k])
    a,b = P._limits[k]
    return st.integers(a,b) if isinstance(default, int) else st.floats(a, b)

one_step = st.sampled_from(sorted(STEPS)).flatmap(
    lambda n: st.fixed_dictionaries({}, optional={k:values(k,v) for k,v in STEPS[n].items()}).map(lambda d: (n,d)))

@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(one_step, max_size=5))
def test_recipes_survive_text_json_and_pickle(steps):
    r = Recipe(tuple(P._step(n, **d) for n,d in steps))
    assert Recipe.parse(str(r))==r and as_recipe(str(r))==r
    assert Recipe.from_json(json.loads(json.dumps(r.to_json())))==r
    assert pickle.loads(pickle.dumps(r))==r and copy.deepcopy(r)==r and hash(Recipe.parse(str(r)))==hash(r)

@pytest.mark.parametrize('text,why', [
    ('corp','did you mean'), ('crop,grahm','did you mean graham'), ('crop,clahe:clp=2','did you mean clip'),
    ('crop,channel:gren','did you mean green'),
    ('local_average:sigma=-1','from 0.5 to 300'), ('local_average:sigma=nan','out of range'),
    ('clahe:tiles=2.5','a whole number'), ('crop:size=many','out of range'), ('gray:3','unknown parameter'),
    ('crop:size=1e99','out of range'),
    ('crop,,:','unknown step')])
def test_recipe_errors_teach(text, why):
    with pytest.raises(EyeError, match=why): as_recipe(text)

@pytest.mark.parametrize('obj', [3, {'step':'crop'}, ['crop'], [{'name':'crop'}], [{'step':'crop','size':[1]}],
                                 [{'step':'no'}]])
def test_recipe_json_errors_teach(obj):
    with pytest.raises(EyeError): as_recipe(obj)

def test_every_step_is_documented_by_its_limits():
    for ps in STEPS.values():
        for k in ps: assert (k in P._words) != (k in P._limits), k

def test_noise_follows_the_picture():
    a,b,r = disc(seed=1),disc(seed=2),recipes['green_noise']
    assert (r(a)==r(a)).all() and (r(a)!=r(b)).any()

def test_recipe_in_a_worker_process():
    with multiprocessing.get_context('spawn').Pool(1) as pool: out = pool.apply(recipes['graham'], (disc(), 64))
    assert (out==recipes['graham'](disc(), 64)).all()

def test_size_is_the_callers_unless_the_recipe_says():
    im = disc()
    assert as_recipe('gray,')(im, 80).shape==(80,80,3) and as_recipe('gray,')(im).shape==(300,400,3)
    assert as_recipe('crop:size=50')(im, 80).shape==(50,50,3) and as_recipe('square')(im, 80).shape==(80,80,3)

def test_field_is_looked_for_once(monkeypatch):
    calls = []
    monkeypatch.setattr(P, 'field_of_view', lambda im, side=128: calls.append(1) or field_of_view(im, side))
    as_recipe('crop,clahe,local_average,contrast,gray')(disc(), 100)
    assert len(calls)==1

def test_no_field_is_told_once(capsys, monkeypatch):
    monkeypatch.setattr(P, '_told', set())
    for _ in range(3): out = recipes['graham'](np.zeros((90,120,3), np.uint8), 48)
    assert out.shape==(48,48,3) and capsys.readouterr().err.count('no visible field')==1

# --- real pictures

def rgb(path): return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)

def iou(a, b): return (a&b).sum()/(a|b).sum()

def test_drive_masks(test_data):
    "The masks that DRIVE's authors drew"
    files = sorted((test_data/'drive/images').glob('*'))
    got = [iou(field_mask(rgb(o)), cv2.imread(str(o.parent.parent/'fov'/o.name), 0)>127) for o in files]
    assert len(got)==20 and min(got)>=.97

@pytest.mark.parametrize('folder,least', [('odir5k/preprocessed_images',.95), ('fundus_dme/images',.97)])
def test_real_fields(test_data, folder, least):
    "In nearly all real pictures most of the edge lies on the circle, and the crop's circle fills the crop"
    files = sorted((test_data/folder).glob('*'))[::8]
    fields = [field_of_view(rgb(o)) for o in files]
    assert np.mean([f.found and f.fit>.8 for f in fields])>=least
    crops = [field_of_view(circle_crop(rgb(o), 256)) for o,f in list(zip(files,fields))[::6] if f.fit>.9]
    good = [f.box[2]-f.box[0]>=246 and abs(f.aspect-1)<.04 for f in crops if f.fit>.9]
    assert np.mean(good)>.9

def test_real_local_average(test_data):
    for o in sorted((test_data/'drive/images').glob('*'))[::5]:
        im = circle_crop(rgb(o), 512); f = field_of_view(im)
        assert np.abs(local_average(im, field=f)-slow(im, f, 15, .98)).mean()<.5

def test_real_quality(test_data):
    "The two filters agree on little; ours refuses pictures in which no vessel is to be seen"
    files = sorted((test_data/'odir5k/preprocessed_images').glob('*'))[::10]
    bad = [not vessel_quality(rgb(o)).good for o in files]
    assert .01<np.mean(bad)<.08 and np.mean([not saturation_quality(rgb(o)).good for o in files])<.02

def test_a_whole_circle_of_a_gray_array_and_one_look_at_the_color(monkeypatch):
    gray,asked,colored = disc(gray=True),[],P.colored
    three = np.stack([gray]*3, -1)
    monkeypatch.setattr(P, 'colored', lambda im: asked.append(1) or colored(im))
    for o in (gray, three, np.full_like(three, 90)): P.whole_circle(o, 64)
    assert len(asked)==3 and not colored(gray) and not colored(three) and np.array_equal(P.whole_circle(gray, 64), P.whole_circle(three, 64))

@pytest.mark.parametrize('size', [-5, 'a', 2.5, None])
def test_a_size_that_is_none_is_told(size):
    for f in (circle_crop, P.square_resize):
        with pytest.raises(EyeError, match='`size`'): f(disc(), size)


def test_files_of_another_kind_are_doubtful_before_a_net_learns_from_them():
    from fundus_fastai.image.recipe import doubts_of
    from fundus_fastai.phantom.fundus import phantom_fundus
    from fundus_fastai.phantom.oct import phantom_oct
    scan,eye = phantom_oct('NORMAL', seed=1).image,phantom_fundus(seed=1, size=192).image
    scan = np.stack([scan]*3, -1)
    assert doubts_of(True)(scan) is doubts_of(False)(eye) is None
    assert 'in color' in doubts_of(True)(eye) and 'in no circle' in doubts_of(False)(scan)
    assert 'is blank' in doubts_of(True)(0*scan) and 'no visible field' in doubts_of(False)(0*eye)

def test_pixels_of_torch_are_measured_as_those_of_numpy():
    "OpenCV had refused them in a sentence of its own"
    import torch
    from fundus_fastai.image.recipe import level_scan
    im = np.random.default_rng(0).integers(0, 255, (96,96), dtype=np.uint8)
    assert vessel_quality(torch.tensor(im))==vessel_quality(im)
    assert (level_scan(torch.tensor(im))==level_scan(im)).all()
