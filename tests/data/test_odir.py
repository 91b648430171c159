"ODIR's words, eye by eye"
import os
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from fundus_fastai.core import DataError
from fundus_fastai.data.odir import (ODIR_LABELS, odir_labels, odir_phrases, read_odir,
                                     split_keywords)
from fundus_fastai.data.catalog import guess_card, read_dataset

def tables(root, **rows):
    for f,lines in rows.items():
        f = Path(root)/f.replace('__','/'); f.parent.mkdir(parents=True, exist_ok=True)
        f.write_text('\n'.join(lines)+'\n', encoding='utf-8')

HEAD = 'ID,Patient Age,Patient Sex,Left-Diagnostic Keywords,Right-Diagnostic Keywords,N,D,G,C,A,H,M,O,filename'

def eye(i, side, left, right, age=60, sex='Female', own='0,1,0,0,0,0,0,0'):
    return f'{i},{age},{sex},{left},{right},{own},{i}_{side}.jpg'

PHRASES = odir_phrases()
NAMED = PHRASES[PHRASES.label.isin(ODIR_LABELS)].set_index('phrase').label.to_dict()

@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from(sorted(NAMED)), min_size=1, max_size=4, unique=True),
       st.lists(st.sampled_from([',','，',' ， ','; ']), min_size=3, max_size=3),
       st.sampled_from(['','lens dust','Low image quality']))
def test_any_words_in_any_order(words, seps, remark):
    words = words + [remark]*bool(remark)
    text = words[0] + ''.join(seps[i%3]+w.title() for i,w in enumerate(words[1:]))
    o = odir_labels(text)
    want = {NAMED[w] for w in words if w in NAMED}
    if len(want)>1: want.discard('normal')
    assert {k for k,v in o['labels'].items() if v}==want and not o['unknown'] and o['quality']==remark.lower()
    grades = [int(g) for w,g in zip(PHRASES.phrase, PHRASES.grade) if w in words and not pd.isna(g) and g]
    assert o['grade']==(max(grades) if grades else 0 if want=={'normal'} else None)

def test_splitting_words():
    assert split_keywords('A，b,c；d')==['a','b','c','d'] and split_keywords(' ')==split_keywords('')==split_keywords(np.nan)==[]

def test_odir_is_per_eye_and_says_what_it_left_out(tmp_path, capsys):
    rows = [(1,'normal fundus','no fundus image'), (2,'lens dust','normal fundus，lens dust'),
            (3,'glaucoma','suspected glaucoma'),
            (4,'coffee stain','diabetic retinopathy'), (5,'anterior segment image','image offset'),
            (6,'optic disk photographically invisible，cataract','drusen')]
    text = [eye(i, s, l, r, age=1 if i==2 else 60, own='0,0,0,0,0,0,0,1') for i,l,r in rows for s in ('left','right')]
    tables(tmp_path, **{'full_df.csv':[HEAD]+text})
    (tmp_path/'preprocessed_images').mkdir()
    for i,_,_ in rows:
        for s in ('left','right'): (tmp_path/f'preprocessed_images/{i}_{s}.jpg').touch()
    df = read_odir(tmp_path)
    err = capsys.readouterr().err
    o = df.set_index(df.patient+df.eye)
    assert set(o.index)=={'1L','2L','2R','3L','3R','4L','4R','5R','6L','6R'}
    assert o.loc[['2L','5R'],list(ODIR_LABELS)].isna().all().all() and o.quality['2L']=='lens dust'
    assert o.normal['2R']==1 and o.grade['2R']==0 and o.quality['2R']=='lens dust' and o.patient_O['2R']==1
    assert o.age.isna().sum()==2 and o.glaucoma[['3L','3R']].tolist()==[1,1]
    assert o.other['4L']==1 and o['diabetic retinopathy']['4R']==1 and pd.isna(o.grade['4R'])
    assert o.cataract['6L']==1 and o.other['6R']==1 and o.quality['6L']=='optic disk photographically invisible'
    for why in ["'coffee stain' means (1 images)", '2 of 12 pictures show no retina', '2 of 10 eyes have only a remark',
                '2 of 12 images have the age 1', '1 of 2 eyes with glaucoma are suspected']:
        assert why in err, (why, err)

def test_children_keep_their_age_and_a_name_tells_the_eye(tmp_path):
    "An age of 1 stands for an unknown one, 2 does not"
    names = ['1_left.jpg','2_RIGHT.jpg']
    text = [eye(i, 'x', 'normal fundus', 'drusen', age=i).replace(f'{i}_x.jpg', o) for i,o in zip((1,2), names)]
    tables(tmp_path, **{'full_df.csv':[HEAD]+text})
    (tmp_path/'preprocessed_images').mkdir()
    for o in names: (tmp_path/f'preprocessed_images/{o}').touch()
    df = read_odir(tmp_path).set_index('patient')
    assert pd.isna(df.age['1']) and df.age['2']==2 and df.eye.to_dict()=={'1':'L','2':'R'} and df.normal.to_dict()=={'1':1,'2':0}
    tables(tmp_path, **{'full_df.csv':[HEAD, text[0], text[1].replace('_RIGHT','_front')]})
    with pytest.raises(DataError, match='1 file names tell no eye .*2_front.jpg'): read_odir(tmp_path)

def test_real_odir(test_data, capsys, tmp_path):
    df = read_dataset('odir5k', test_data/'odir5k')
    assert (len(df), df.patient.nunique(), df.attrs['labels'])==(4327, 2272, ODIR_LABELS)
    assert df[list(ODIR_LABELS)].sum().tolist()==[1934,1186,210,201,196,128,157,612]
    assert not df[list(ODIR_LABELS)].isna().any().any()
    assert df.grade.value_counts().to_dict()=={0:1934,1:357,2:665,3:105,4:22}
    assert df.age.isna().sum()==20 and df.age.min()==15
    assert df.sex.value_counts().to_dict()=={'male':2313,'female':2014}
    assert df.eye.value_counts().to_dict()=={'L':2166,'R':2161}
    assert (df.quality!='').sum()==70 and ((df.normal==1)&(df.patient_N==0)).sum()==534
    err = capsys.readouterr().err
    assert 'means' not in err and '20 of 4327 images have the age 1' in err and '31 of 210 eyes' in err
    assert guess_card(test_data/'odir5k')=='odir5k' and all(os.path.isfile(o) for o in df.path)

def test_words_agree_with_the_makers_on_every_patient(test_data):
    raw = pd.read_csv(test_data/'odir5k/full_df.csv').drop_duplicates('ID')
    both = [[odir_labels(o) for o in p] for p in zip(raw['Left-Diagnostic Keywords'], raw['Right-Diagnostic Keywords'])]
    assert not [u for p in both for o in p for u in o['unknown']]
    got = np.array([[max((o['labels'] or {}).get(l, 0) for o in p) for l in ODIR_LABELS] for p in both])
    got[:,0] &= ~got[:,1:].any(axis=1)
    assert (got==raw[list('NDGCAHMO')].to_numpy()).all()

def test_the_full_table_reads_the_same(test_data, tmp_path):
    raw = pd.read_csv(test_data/'odir5k/full_df.csv')
    full = raw.assign(filepath='../input/x/'+raw.filename, labels="['N']", target='[1, 0, 0, 0, 0, 0, 0, 0]')
    full.to_csv(tmp_path/'full_df.csv', index=False)
    few = raw.filename[:40]
    (tmp_path/'preprocessed_images').mkdir()
    for o in few: (tmp_path/'preprocessed_images'/o).touch()
    a,b = read_odir(tmp_path),read_odir(test_data/'odir5k')
    b = b[b.path.map(os.path.basename).isin(few)].reset_index(drop=True)
    assert a.drop(columns='path').equals(b.drop(columns='path'))
