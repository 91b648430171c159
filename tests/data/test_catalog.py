"Cards, and phantoms by name"
import pytest
from fundus_fastai.core import DataError, EyeError
from fundus_fastai.data.catalog import cards, catalog, get_card, guess_card, make_phantom, read_dataset

FUNDUS = 'vietai2020 eyepacs aptos2019 odir5k messidor2 idrid rfmid diaretdb1 papila ukb'.split()

def test_cards():
    assert {'kermany2018','folder','csv'} <= set(catalog().index)
    assert 'paultimothymooney/kermany2018' in str(get_card('kermany2018'))
    assert '<table>' in get_card('kermany2018')._repr_html_()
    with pytest.raises(EyeError, match='did you mean kermany2018'): get_card('kermany208')

def test_cards_are_complete():
    assert {'kermany2018','folder','csv',*FUNDUS}==set(cards)
    for o in cards.values():
        assert o.parser and o.patient and (o.license or o.kind=='local') and bool(o.kaggle)==(o.kind!='local')
        if not o.kaggle: continue
        assert o.url.endswith(o.kaggle) and ('/c/' in o.url)==(o.kind=='competition') and o.gb and o.gb_unpacked
    assert {o for o in cards if cards[o].kind=='competition'}=={'vietai2020','eyepacs','aptos2019'}
    assert max(map(len, catalog().reset_index().to_string(index=False).splitlines()))<=120

def test_a_plain_folder_is_still_a_folder(tmp_path):
    for o in ('dry/a.png','wet/b.png'): (tmp_path/o).parent.mkdir(exist_ok=True); (tmp_path/o).touch()
    (tmp_path/'train.csv').write_text('file,grade\na.png,1\n')
    assert guess_card(tmp_path)=='folder'

def test_make_phantom(nobody):
    d = make_phantom('kermany2018', nobody/'p', patients=8, seed=2)
    df = read_dataset('kermany2018', d)
    assert df.attrs['source']=='phantom' and df.patient.nunique()==8 and df.patient.astype(int).min()==20_001
    assert make_phantom('kermany2018', d, patients=8, seed=2)==d
    with pytest.raises(DataError, match='no phantoms of csv'): make_phantom('csv', nobody/'q')

def test_phantom_is_told_through_a_csv(nobody):
    d = make_phantom('kermany2018', nobody/'p', patients=4)
    df = read_dataset('kermany2018', d)
    df.to_csv(nobody/'mine.csv', index=False)
    assert read_dataset('csv', nobody/'mine.csv').attrs['source']=='phantom'
