"Pictures and masks on their way into a batch"
import cv2, numpy as np, pandas as pd, pytest, torch
from PIL import Image
from fastai.callback.data import WeightedDL
from fundus_fastai.core import DataError, EyeError, EyeWarning
from fundus_fastai.image import recipe as recipes_room
from fundus_fastai.image.recipe import level_scan
from fundus_fastai.phantom.oct import phantom_oct
from fundus_fastai.vision.data import OpenEye, eye_dls, several, squish
from fundus_fastai.vision.outputs import BothOutput, ClassOutput, LabelsOutput, NumberOutput
from nets import eye, frame

def test_a_mask_is_cropped_as_its_picture():
    im = eye(0); mask = im[...,0]>200
    o = OpenEye('fundus', 'color')
    seen,cut = o.view(im),o.place(mask, im)
    assert cut.shape==seen.shape[:2] and ((seen[...,0]>200)==cut).mean()>.995 and cut.any()

@pytest.mark.parametrize('recipe', ['','color','square','channel:green','zero:channel=blue'])
def test_picture_and_mask_lie_where_the_net_sees_them(recipe):
    "An uncut picture is padded to a square on its way to the net's size: so are its view, its field and its masks"
    im = np.pad(eye(0), ((0,0),(60,60),(0,0)))
    o,mask = OpenEye('fundus', recipe, 64),im[...,1]>140
    def small(a): return cv2.resize(np.asarray(a, np.float32), (64,64), interpolation=cv2.INTER_AREA)
    seen = small(squish(64)(o(im)))
    assert o.view(im).shape[:2]==o.place(mask, im).shape==o.field(im).shape
    assert np.abs(small(o.view(im))-seen).mean()<3 and (small(o.field(im))>.5)[seen.max(-1)>40].mean()>.9
    at = (small(o.place(mask, im))>.5)[seen[...,1]>130]
    assert len(at)>8 and at.mean()>.8

@pytest.mark.parametrize('labels,names', [([0,1],['0','1']), ([False,True],['False','True']), ([1.,2.],['1.0','2.0'])])
def test_numbers_may_be_classes(labels, names):
    df = pd.DataFrame(dict(path=[eye(k) for k in range(8)], label=labels*4, split=['train']*4+['valid']*4))
    dls = eye_dls(df, image='fundus', size=32, bs=4, workers=0)
    assert not isinstance(dls.train, WeightedDL) # unless it is asked for
    assert list(dls.vocab)==names==dls.output.names and dls.valid.one_batch()[1].tolist()==[0,1,0,1]

@pytest.mark.parametrize('kind', ['oct','fundus'])
@pytest.mark.parametrize('recipe', ['','square'])
def test_arrays_are_of_eight_bits(kind, recipe):
    "Shares and sixteen bits would be black or white pictures, and answers of nothing"
    im = eye(0)[...,0] if kind=='oct' else eye(0)
    assert np.asarray(OpenEye(kind, recipe, 64)(im)).std()>5
    for bad in (im/255., im.astype(np.uint16)*257):
        with pytest.raises(DataError, match='turn it into uint8, 0 to 255, first'): OpenEye(kind, recipe, 64)(bad)

def test_large_photographs_are_decoded_small(tmp_path):
    cv2.imwrite(str(tmp_path/'big.jpg'), cv2.resize(eye(3), (2400,1920))[...,::-1])
    o = OpenEye('fundus', 'color', 224)
    assert min(o.eye(tmp_path/'big.jpg').image.shape[:2])<1000 and o(tmp_path/'big.jpg').size==(224,224)
    assert o.view(tmp_path/'big.jpg').shape[0]>1500 and OpenEye('fundus')(tmp_path/'big.jpg').size==(2400,1920)

@pytest.mark.parametrize('balance', [False, True])
def test_pictures_of_a_table_are_not_written_out(monkeypatch, balance):
    "fastai formats its source before it decides to say nothing: of a table of 40 pictures, for seconds"
    df = pd.DataFrame(dict(path=[eye(i) for i in range(6)], label=list('ababab'), split=['train']*4+['valid']*2))
    for o in ('__repr__','__str__'): monkeypatch.setattr(pd.DataFrame, o, lambda self: pytest.fail("the table was written out"))
    dls = eye_dls(df, bs=2, workers=0, size=32, balance=balance)
    assert len(dls.train_ds)==4 and isinstance(dls.train, WeightedDL)==balance

def test_a_split_that_leaks_is_told(recwarn):
    "By name, unless whoever read the split has asked for it"
    df = frame(8).assign(patient=[f'p{i//2}' for i in range(8)], split=['train','valid']*4)
    with pytest.warns(EyeWarning, match='p0, p1, p2, p3; what is measured on one side flatters'): eye_dls(df, size=32, workers=0)
    df.attrs['leak'] = True
    recwarn.clear()
    assert len(eye_dls(df, size=32, workers=0).train_ds)==4 and not [o for o in recwarn if issubclass(o.category, EyeWarning)]

def test_photographs_are_not_read_as_scans_in_silence(tmp_path, recwarn):
    "The card of a data set knows its images; of a folder, colors are told, and neither a colored mark nor a kind that was named"
    df = frame(6)
    def opened(ims, name, **how):
        for k,im in enumerate(ims): Image.fromarray(im).save(tmp_path/f'{k}.png')
        t = df.assign(path=[str(tmp_path/f'{k}.png') for k in range(6)])
        t.attrs['name'] = name
        recwarn.clear()
        dls = eye_dls(t, size=32, workers=0, **how)
        return dls.opener.cls.__name__, [str(o.message) for o in recwarn if issubclass(o.category, EyeWarning)]
    photos,scans = [eye(k) for k in range(6)],[np.dstack([o]*3) for o in df.path]
    for o in scans: o[:3,:3] = 0,255,0
    assert opened(photos, 'odir5k')==('PILFundus',[]) and opened(photos, 'kermany2018')==('PILOct',[])
    kind,(told,) = opened(photos, 'folder')
    assert kind=='PILOct' and "0.png is in color" in told and "image='fundus'" in told
    assert opened(scans, 'folder')==('PILOct',[]) and opened(photos, 'folder', image='oct')==('PILOct',[])
    assert opened(photos, 'csv', image='fundus')==('PILFundus',[])

def test_the_truth_of_a_scan_is_bent_with_it(tmp_path):
    "What a mask marks is the same tissue after the recipe `retina`, and has the shape of the picture that maps are drawn on"
    o = phantom_oct('DME', 3, 8)
    o_path = str(tmp_path/'scan.png')
    Image.fromarray(o.image).save(o_path)
    opener = OpenEye('oct', 'retina', 128)
    view,mask = opener.view(o_path),opener.place(o.mask, o_path)
    assert view.shape==mask.shape==(323,512) and np.asarray(opener(o_path)).shape==(128,128) and not opener.padded
    assert .8<mask.sum()/o.mask.sum()<1.2
    leveled = level_scan(o.image).astype(float)
    assert abs(view[mask].mean()-leveled[o.mask].mean())<6 < abs(view[~mask].mean()-leveled[o.mask].mean())

@pytest.mark.parametrize('recipe', ['level,flatten,square','square,flatten','level,square,flatten','flatten','square','square:size=300,flatten'])
@pytest.mark.parametrize('cols', [(0,512),(60,360)], ids=['wide','high'])
def test_a_mask_takes_the_steps_of_a_recipe_in_their_order(recipe, cols, monkeypatch):
    "What changes where the mask's pixels alone are brighter; a made line, which does not hang on brightness"
    monkeypatch.setattr(recipes_room, 'retina_line', lambda im: (.6+.08*np.sin(np.linspace(0, 6, im.shape[1])))*im.shape[0])
    o = phantom_oct('DME', 3, 8)
    im,mask = (np.ascontiguousarray(a[:,slice(*cols)]) for a in (o.image,o.mask))
    opener = OpenEye('oct', recipe, 96)
    there,view,lit = opener.place(mask, im),opener.view(im//2),opener.view(cv2.add(im//2, 60*mask.astype(np.uint8)))
    assert view.shape[:2]==there.shape and there.any()
    seen = lit.astype(int)-view>30
    assert (seen&there).sum()/(seen|there).sum()>.8

@pytest.mark.parametrize('kind', ['oct','fundus'])
def test_a_picture_goes_through_the_recipe_as_its_file_does(tmp_path, kind):
    Image.fromarray(eye(1)).save(tmp_path/'a.png')
    o = OpenEye(kind, 'square' if kind=='oct' else 'color', 64)
    want = np.asarray(o(tmp_path/'a.png'))
    for im in (Image.open(tmp_path/'a.png'), o.cls.create(tmp_path/'a.png')):
        assert np.abs(np.asarray(o(im)).astype(int)-want).max()<3 # of shades of gray, which Pillow rounds otherwise
        seen,told = o.view(im),o.view(tmp_path/'a.png')
        assert seen.shape==told.shape and np.abs(seen.astype(int)-told).max()<3
    assert np.array_equal(np.asarray(o(o(tmp_path/'a.png'))), want)

def flawed(**kwargs):
    df = pd.DataFrame(dict(path=[eye(k) for k in range(8)], label=list('ab')*4, age=40., split=['train']*4+['valid']*3+['test'], A=[0,1]*4, B=[1,0]*4))
    return df.assign(**kwargs)

flaws = dict(split=(flawed().drop(columns='split'), {}, 'no column split: it has path, label, age, A, B'),
             path=(flawed().drop(columns='path'), {}, 'no column path'), typo=(flawed(), dict(label='dx'), 'no column dx'),
             label=(flawed().drop(columns='label'), {}, 'no column label'), gap=(flawed(label=[None,*'bababab']), {}, '1 of 7 .* have no label: leave'),
             age=(flawed(label=[np.nan]*2+[40.]*6), dict(output=NumberOutput(['age'])), '2 of 7 .* have no label'),
             labels=(flawed(B=[1,0]*3+[np.nan]*2), dict(output=LabelsOutput(['A','B'])), '1 of 7 .* have no A, B'),
             beside=(flawed(dx=list('ab')*4, age=[np.nan]+[40.]*7), dict(label='dx', output=BothOutput('ab')), '1 of 7 .* have no dx, age'),
             file=(flawed(path=[None]+[eye(k) for k in range(7)]), {}, '1 of 7 images have no path'),
             uncertain=(flawed(B=[1,0]*3+[-1]*2), dict(output=LabelsOutput(['A','B'])), "'B' is to hold 0 and 1, and holds -1"),
             words=(flawed(B=list('01')*4), dict(output=LabelsOutput(['A','B'])), "'B' is to hold 0 and 1, and holds '0', '1'"),
             classes=(flawed(), dict(output=ClassOutput(['a','c'])), 'does not know: b'),
             number=(flawed(), dict(output=NumberOutput(['age'])), "is to be a number, and holds 'a', 'b'"),
             side=(flawed(split=['train']*4+['val']*4), {}, 'unknown split val: expected train'))

@pytest.mark.parametrize('flaw', flaws)
def test_a_table_with_a_gap_is_told_by_its_column(flaw):
    df,how,why = flaws[flaw]
    with pytest.raises(DataError, match=why): eye_dls(df, image='fundus', size=32, bs=4, workers=0, **how)

@pytest.mark.parametrize('how,why', [(dict(image='ct'), "unknown image 'ct'"), (dict(bs=0), 'bs.* at least 1'), (dict(size=0), 'size.* at least 1')])
def test_options_of_loaders_are_told_by_name(how, why):
    with pytest.raises(EyeError, match=why): eye_dls(flawed(), **(dict(image='fundus', size=32, bs=4, workers=0)|how))

def test_a_gap_among_the_test_rows_is_no_matter():
    assert len(eye_dls(flawed(label=[*'bababab',None]), image='fundus', size=32, bs=4, workers=0).valid_ds)==3

def test_numbers_of_any_type_are_numbers():
    df = flawed(label=pd.Series(range(40, 48), dtype=object))
    assert eye_dls(df, output=NumberOutput.learn(df), image='fundus', size=32, bs=4, workers=0).valid.one_batch()[1].tolist()==[44,45,46]

def test_the_truth_is_read_from_the_column_that_was_learned():
    "A table may have a `label` of another meaning beside it; what is not there, or not known, is told"
    df = flawed(dx=list('baabbaab'))
    dls = eye_dls(df, label='dx', image='fundus', size=32, bs=4, workers=0)
    for o in (dls, dls.new_empty()): assert o.label=='dx'
    assert dls.test_dl(df, with_labels=True).one_batch()[1].tolist()==[1,0,0,1]
    assert dls.test_dl(df.drop(columns='label'), with_labels=True).one_batch()[1].tolist()==[1,0,0,1]
    for bad,why in ((df.drop(columns='dx'), 'no column dx'), (df.assign(dx='c'), 'does not know: c'), (df.assign(dx=None), '8 of 8 images have no dx')):
        with pytest.raises(DataError, match=why): dls.test_dl(bad, with_labels=True)
    for none in ([], df[:0]):
        with pytest.raises(DataError, match='there are no images'): dls.test_dl(none)

@pytest.mark.parametrize('mode', ['I;16','I','F'])
def test_pictures_of_pillow_are_of_eight_bits(mode):
    im = Image.fromarray(eye(0)[...,0].astype(np.uint16)*257)
    with pytest.raises(DataError, match=f'mode {mode}, has more than 8 bits a channel: convert'): OpenEye('fundus')(im if mode=='I;16' else im.convert(mode))

def test_a_picture_lies_as_its_file(tmp_path):
    "Cameras turn it by a note in the file; torchvision has the channels first"
    note,im = Image.Exif(),eye(1)[:,:70]
    note[0x0112] = 6
    Image.fromarray(im).save(tmp_path/'a.png', exif=note)
    o = OpenEye('fundus')
    want = np.asarray(o(tmp_path/'a.png'))
    assert want.shape==(70,im.shape[0],3) and np.array_equal(np.asarray(o(Image.open(tmp_path/'a.png'))), want)
    t = torch.from_numpy(im)
    for x in (t, t.permute(2,0,1)): assert np.array_equal(np.asarray(o(x)), im)
    for x in (t[...,:1], t[None,...,0], t[...,0]): assert np.array_equal(np.asarray(o(x))[...,2], im[...,0])


def test_a_wrong_thing_is_told_as_what_was_expected():
    with pytest.raises(DataError, match='a table .DataFrame. is wanted, and this is a str'): eye_dls('folder')
    with pytest.raises(DataError, match='split_patients'): eye_dls(flawed().drop(columns='split'))
    with pytest.raises(DataError, match='are expected, not int'): several(3)
    with pytest.raises(DataError, match='one file or picture is expected, not int'): OpenEye()(3)
    with pytest.raises(DataError, match='tensor of torch.float32 is no picture of bytes'): OpenEye()(torch.zeros(8,9))
    im = np.zeros((8,9), np.uint8)
    assert [len(several(o)) for o in (im, Image.fromarray(im), 'eye.png', [im,im])]==[1,1,1,2]
