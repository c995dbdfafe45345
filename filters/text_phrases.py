"""What texts say that describe no picture: refusals, leavings of models and of web pages.

Collected from what assistants and web pages are known to say; the selection is ours. All in the
form of `filters.text_words.normalised`: lower case, no punctuation, no apostrophes.
"""

# Anywhere in a text. None stands in the 40,460 captions of Flickr8k.
PHRASES: tuple[str, ...] = (
    # a model refuses, or has nothing to say
    *("im sorry but", "i am sorry but", "i apologize but", "sorry but i cannot", "sorry i cannot"),
    *("sorry i cant", "i cannot assist", "i cant assist", "i cannot help", "i cant help with"),
    *("i cannot provide", "i cant provide", "i cannot identify", "i cant identify"),
    *("i cannot describe", "i cant describe", "i cannot see", "i cant see", "i cannot view"),
    *("i cant view", "i am unable to", "im unable to", "i am not able to", "im not able to"),
    *("unable to assist", "unable to process", "unable to view the image", "unable to see"),
    *("cannot fulfill", "cant fulfill", "against my guidelines", "openai", "chatgpt"),
    *("as an ai", "ai language model", "language model", "ai assistant", "my programming"),
    *("my knowledge cutoff", "content policy", "no image provided", "no image was provided"),
    *("image was not provided", "you havent provided", "you have not provided"),
    *("please provide", "please upload", "i dont see any image", "i do not see any image"),
    # a model talks to its user
    *("heres a caption", "here is a caption", "here is the caption", "heres the caption"),
    *("heres a description", "here is a description", "here is a detailed description"),
    *("heres a detailed description", "sure here is", "sure heres", "certainly here is"),
    *("certainly heres", "of course here is", "let me know if", "i hope this helps"),
    *("feel free to ask", "is there anything else", "would you like me to"),
    *("the caption for this image", "caption for the image", "based on the provided"),
    *("in the provided image", "the image you provided", "the image you shared"),
    *("the image you uploaded", "insert caption", "insert description"),
    # a web page talks about itself
    *("all rights reserved", "click to enlarge", "click to view", "click here", "click for"),
    *("click on the image", "image may contain", "no photo description available"),
    *("no description available", "no alternative text", "no alt text", "image not available"),
    *("image not found", "photo not available", "image coming soon", "photo coming soon"),
    *("image unavailable", "no image available", "this image is no longer available"),
    *("image loading", "loading image", "add to cart", "add to wishlist", "buy now", "shop now"),
    *("free shipping", "read more", "learn more", "subscribe to"),
    *("follow us", "share this", "tweet this", "privacy policy", "cookie policy"),
    *(
        "log in to",
        "terms of use",
        "lorem ipsum",
        "your browser does not support",
        "javascript is disabled",
    ),
    *("photo credit", "image credit", "photo courtesy", "image courtesy", "click to zoom"),
    *("royalty free", "stock photo", "stock image", "stock vector", "stock illustration"),
    *("editorial use only", "file photo", "use arrow keys", "opens in a new"),
)
# As a whole text: in a longer one they may be meant.
TEXTS: tuple[str, ...] = (
    *("image", "images", "photo", "photos", "photograph", "picture", "pictures", "pic", "img"),
    *("an image", "a photo", "a picture", "the image", "the photo", "the picture"),
    *("image of", "photo of", "picture of", "untitled", "no title", "none", "null", "nan", "n a"),
    *("undefined", "unknown", "default", "default image", "placeholder", "placeholder image"),
    *("thumbnail", "thumb", "banner", "logo", "icon", "avatar", "profile picture", "header"),
    *("featured image", "main image", "product image", "cover image", "background"),
    *("alt", "alt text", "alt tag", "caption", "description", "title", "test", "todo", "tbd"),
    *("gallery image", "slide", "slideshow", "advertisement", "sponsored", "screenshot"),
    *("broken image", "missing image", "no image", "no photo", "no caption", "no description"),
)
